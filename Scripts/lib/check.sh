# Sourced by scripts that count checks. Wants $work, a directory; leaves $passed, $failed, and in $work/out what the last command printed.

passed=0
failed=0
good() { passed=$((passed + 1)); }
bad() { # what, and the file with what was said
    failed=$((failed + 1))
    echo "FAILED: $1"
    [ $# = 1 ] || tail -n 60 "$2"
}
check() { # name, expected status, command...
    local name=$1 expected=$2 status=0
    shift 2
    "$@" >"$work/out" 2>&1 || status=$?
    if [ "$status" = "$expected" ]; then
        good
    else
        bad "$name: status $status, not $expected"
        cat "$work/out"
    fi
}
