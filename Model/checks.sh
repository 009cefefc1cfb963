# Sourced by Scripts/model and Scripts/mutants: finding Spin, building one configuration of the model.

model=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/gate.pml

need_tools() {
    local missing=()
    command -v gcc >/dev/null || missing+=(gcc)
    command -v spin >/dev/null || missing+=(spin)
    if [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing ${missing[*]}"
        { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 || true
    fi
    for tool in gcc spin; do
        command -v "$tool" >/dev/null || { echo "missing: $tool (on Debian: apt-get install $tool)" >&2; exit 1; }
    done
}

# build DIRECTORY OPTIMISATION DEFINES... leaves DIRECTORY/pan.
# SAFETY: assertions and invalid end states. NOREDUCE: partial order reduction saves nothing here (nearly every step
# touches shared memory), and without it nobody has to argue that it is sound beside `unless` and `timeout`. No hash
# compaction, no bit states: what is not stored in full is not proven.
build() {
    local dir=$1 optimise=$2
    shift 2
    mkdir -p "$dir"
    (
        cd "$dir"
        spin "$@" -a "$model" >spin.log 2>&1 && gcc "$optimise" -w -DSAFETY -DNOREDUCE -DMEMLIM=3000 -o pan pan.c >gcc.log 2>&1
    )
}
