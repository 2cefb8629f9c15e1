# Runs a command until standard input says otherwise, so that nothing outlives the test that started it.
#   sh -c "$(cat guard.sh)" guard FOLDER COMMAND...
# Output goes to FOLDER/output, the process id to FOLDER/pid. The line "keep" kills the command and keeps the folder; the end
# of standard input, which comes with the death of the parent however it dies, kills it and removes the folder.
folder=$1
shift
"$@" >>"$folder/output" 2>&1 &
pid=$!
# Ctrl-C reaches the whole process group: it must not end this script before the command. Set after the command began, which
# would inherit it, and then not end on SIGTERM.
trap '' INT HUP TERM
echo "$pid" >"$folder/pid"
read -r word
kill -9 "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
[ "$word" = keep ] || rm -rf "$folder"
