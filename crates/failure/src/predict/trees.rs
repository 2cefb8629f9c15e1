//! Boosted trees as they are asked: flat nodes, sums of leaves, and what each feature added on the way.
//!
//! Trees are grown elsewhere (gradient boosting of the logistic loss: Friedman, Annals of Statistics 29(5), 2001). A feature's part
//! in an answer is the sum of the changes of the expected value at the nodes that ask for it (Saabas, 2014). **Cost:** one
//! comparison a level and tree.

use serde::{Deserialize, Serialize};

/// One node; a leaf has no children.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Place of the feature that is asked for.
    pub feature: u32,
    /// Below it goes left.
    pub split: f64,
    /// Places of the children in the tree, both above its own; 0 in a leaf.
    pub left: u32,
    /// As `left`.
    pub right: u32,
    /// Log odds that it adds, in a leaf; the mean of those below it, otherwise.
    pub value: f32,
}

/// A sum of trees.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trees {
    /// Log odds before the first tree.
    pub base: f64,
    /// Trees by their nodes, the root first.
    pub trees: Vec<Vec<Node>>,
}

impl Trees {
    /// Log odds for a vector of features.
    #[must_use]
    pub fn odds(&self, x: &[f64]) -> f64 {
        self.walk(x, &mut |_, _| {})
    }

    /// The same; `part` is told what each feature asked for on the way added.
    pub fn walk(&self, x: &[f64], part: &mut dyn FnMut(usize, f64)) -> f64 {
        let mut sum = self.base;
        for nodes in &self.trees {
            let Some(mut node) = nodes.first() else { continue };
            while node.left != 0 {
                let feature = node.feature as usize;
                let below = x.get(feature).is_some_and(|v| *v < node.split);
                let Some(next) = nodes.get(if below { node.left } else { node.right } as usize) else {
                    break;
                };
                part(feature, f64::from(next.value) - f64::from(node.value));
                node = next;
            }
            sum += f64::from(node.value);
        }
        sum
    }

    /// Whether every walk ends: children stand after their parents and exist.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.trees.iter().all(|nodes| {
            nodes.iter().enumerate().all(|(i, n)| {
                let child = |c: u32| c as usize > i && (c as usize) < nodes.len();
                n.value.is_finite() && (n.left == 0 || (child(n.left) && child(n.right)))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stump() -> Trees {
        let node = |feature, split, left, right, value| Node {
            feature,
            split,
            left,
            right,
            value,
        };
        Trees {
            base: -1.0,
            trees: vec![vec![
                node(1, 0.5, 1, 2, 0.25),
                node(0, 0.0, 0, 0, -0.5),
                node(0, 0.0, 0, 0, 1.0),
            ]],
        }
    }

    #[test]
    fn parts_sum_to_the_answer() {
        let trees = stump();
        assert!(trees.is_sound());
        let mut parts = Vec::new();
        let odds = trees.walk(&[0.0, 0.7], &mut |f, v| parts.push((f, v)));
        assert_eq!((odds, parts), (0.0, vec![(1, 0.75)]));
        assert_eq!(trees.odds(&[0.0, 0.2]), -1.5);
        // A feature that is not there goes right, and nothing panics.
        assert_eq!(trees.odds(&[]), 0.0);
    }

    #[test]
    fn trees_that_lead_in_circles_are_not_sound() {
        let mut trees = stump();
        trees.trees[0][1].left = 1;
        assert!(!trees.is_sound());
    }
}
