# Sourced by scripts that count checks. Wants $work, a directory; leaves $passed, $failed, and in $work/out what the last command printed.

passed=0
failed=0
check() { # name, expected status, command...
    local name=$1 expected=$2 status=0
    shift 2
    "$@" >"$work/out" 2>&1 || status=$?
    if [ "$status" = "$expected" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $name: status $status, not $expected"
        cat "$work/out"
    fi
}
