import CBench
import ForkGuard
import Glibc

// Everything in one run: what is compared takes turns, many short rounds each, and medians of each round's ratio are shown. The process has a second
// thread all the time, because glibc elides atomics in a single-threaded one.

let benchmarks: [(name: String, about: String, run: () -> [Table])] = [
    ("generation", "asking for the generation, next to getpid, a plain load and BoringSSL's", benchmarkGeneration),
    ("lock", "uncontended lock and unlock, next to NIOLock, NSLock and others", benchmarkLocks),
    ("contended", "2, 4 and 16 threads that hammer one lock, next to the same", benchmarkContended),
    ("condition", "1 and 4 pairs of threads that play ping-pong, next to pthread_cond_t", benchmarkCondition),
    ("fork", "a fork with 1 to 100,000 locks, next to a bare one and to a handler that takes every lock", benchmarkForks),
    ("wait", "what a fork waits for 1 to 1,000 hammering threads, next to try-lock and retry", benchmarkWaits),
    ("idle", "a fork of an idle process that has ForkGuard linked, next to one that has not", benchmarkIdle),
    ("resources", "what hooks and registered resources add to a fork", benchmarkResources),
    ("descriptors", "what adopted descriptors add to a fork", benchmarkDescriptors),
    ("pool", "a pool's lease and return, next to a connection behind a mutex", benchmarkPools),
    ("discard", "a pool's discard in a child, of 1 and of 100,000 idle ones", benchmarkDiscards),
    ("runtime", "metadata, lazy globals, mutexes with the cures of ForkGuardRuntime, next to those without", benchmarkRuntime),
    ("tasks", "tasks, actors and sleeps in a forked child, next to those of its parent", benchmarkTasks),
]

let help = """
    usage: forkguard-bench [--quick] [--json] [--write] [NAME...]
    \(benchmarks.map { "  " + $0.name.padded(to: 13) + $0.about }.joined(separator: "\n"))
    All of them when nothing is named.
      --quick  few and short rounds: shows that everything runs, and measures nothing
      --json   one line: [{"name":...,"value":...,"unit":...,"peer":...,"ratio":...,"goal":...}]; peer, ratio and goal may be null
      --write  writes Docs/performance.md and its plots, below the current directory
      --help   this
    A goal bounds the ratio to the peer, or the value where there is none: from above; from below where the unit ends in "/s".
    Goals that are not met are said, and are no failure.
    """

func standardError(_ text: String) {
    var text = text + "\n"
    text.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
}

let arguments = Array(CommandLine.arguments.dropFirst())
let quick = arguments.contains("--quick"), asJSON = arguments.contains("--json"), writes = arguments.contains("--write")
let named = arguments.filter { !["--quick", "--json", "--write"].contains($0) }

/// How many rounds of what has so many otherwise.
func rounds(_ count: Int) -> Int { quick ? max(3, count / 50) : count }

if arguments.contains("--help") {
    print(help)
    exit(0)
}
if let unknown = named.first(where: { name in !benchmarks.contains { $0.name == name } }) {
    standardError("forkguard-bench: '\(unknown)' is no option and no benchmark\n\n\(help)")
    exit(64)
}
if writes && !named.isEmpty {
    standardError("forkguard-bench: --write writes all results, and '\(named[0])' names only some")
    exit(64)
}

guard ForkGuard.runtimeSupport.allSatisfy({ !$0.isOn }) else {
    standardError("forkguard-bench: the cures of ForkGuardRuntime are on here: what is compared would not be what others have")
    exit(1)
}
startIdleThread()
let load = loadAverage()
if !asJSON { machine().forEach { print($0) } }
var tables: [Table] = []
for (name, _, run) in benchmarks where named.isEmpty || named.contains(name) {
    if asJSON { standardError("\(name)...") }
    let began = bench_nanoseconds()
    let measured = run()
    tables += measured
    if !asJSON {
        measured.forEach { print("\n\($0.text)") }
        print("  (\(name) took \((bench_nanoseconds() - began) / 1_000_000_000) s)")
        fflush(nil)
    }
}
if asJSON {
    print("[" + tables.flatMap(\.json).joined(separator: ",") + "]")
} else {
    let rows = tables.flatMap(\.rows)
    print("\n\(rows.count) results; goals: \(count(of: rows.filter { $0.goal != nil }))")
}
if writes { document(tables, arguments: arguments, load: load, in: "Docs") }
