import Glibc

/// What the cures of ForkGuardRuntime and ForkGuardProcessLocks cost a process that does nothing but what they make slower: the
/// same program with them and with `FORKGUARD_RUNTIME=off`, as processes that take turns. A process does one load once.
func benchmarkRuntime() -> [Table] {
    let rounds = rounds(25)
    guard runtimeLoad("cures", cures: true) == 1, runtimeLoad("cures", cures: false) == 0 else {
        standardError("runtime: the cures cannot be switched on here: runtime-load says why not")
        exit(1)
    }
    var rows: [Row] = []
    // Promised as shares of the throughput without: 0.9 and 0.85.
    for (load, what, goal) in [
        ("types-1", "a new generic type, used and cast, 1 thread", 1.111),
        ("types-2", "a new generic type, used and cast, 2 threads at once", 1.111),
        ("global", "a lazy global, initialised before", nil),
        ("globals", "a lazy global's first use", nil),
        ("mutex-1", "a pthread mutex around an increment, 1 thread", 1.176),
        ("mutex-2", "a pthread mutex around an increment, 2 threads at once", 1.176),
        ("nslock-1", "an NSLock around an increment, 1 thread", 1.176),
        ("nslock-2", "an NSLock around an increment, 2 threads at once", 1.176),
    ] as [(String, String, Double?)] {
        let series = interleaved(
            rounds: rounds, [true, false].map { cures in (name: what, measure: { runtimeLoad(load, cures: cures) }) })
        rows.append(Row(what, series[0].median, "ns", peer: "the same without", ratio: series[0].ratio(to: series[1]), goal: goal))
        if load == "global" { rows.append(Row(what + ", more than without", series[0].median - series[1].median, "ns", goal: 3)) }
    }
    return [
        Table(
            title: "The Swift runtime's and the process's locks inside the gate",
            method: "a process with the cures of ForkGuardRuntime next to one that has them off, time of a call; "
                + "medians of \(rounds) pairs of processes, in turns",
            rows: rows)
    ]
}

/// Runs the program beside this one, and returns the number that it prints.
private func runtimeLoad(_ load: String, cures: Bool) -> Double {
    if cures { unsetenv("FORKGUARD_RUNTIME") } else { setenv("FORKGUARD_RUNTIME", "off", 1) }
    return Double(output(of: "runtime-load", load).filter { !$0.isWhitespace })!
}
