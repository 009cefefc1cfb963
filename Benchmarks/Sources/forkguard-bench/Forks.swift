import CForkLoad

/// A fork of a process with many locks, next to a bare fork of one with the same memory, and to one whose handler takes every lock.
///
/// Where a process lies in memory decides how fast it forks (the same program takes 310 or 420 us with 15 MB of heap), by more than what is
/// looked for: so many processes of each kind.
func benchmarkForks() -> [Table] {
    let rounds = rounds(20), processes = quick ? 2 : 24
    var rows: [Row] = [], faultsWithOne: (parent: Double, child: Double)?
    var lines = ["ForkGuard", "bare fork, same memory", "handler that takes every lock"].map { Plot.Line(name: $0) }
    for count in [1, 10, 100, 1_000, 10_000, 100_000] {
        let locks = count == 1 ? "1 lock" : "\(count) locks"
        let kinds = [
            Kind(name: locks, guarded: true, load: "locks", size: count),
            Kind(name: "bare fork, same memory", guarded: false, load: "heap", size: count),
            Kind(name: "handler that takes every lock", guarded: false, load: "locks", size: count),
            Kind(name: "ForkGuard linked, memory without locks", guarded: true, load: "heap", size: count),
        ]
        let forks = measure(kinds, rounds: rounds, processes: processes)
        for (index, series) in forks.fork[..<3].enumerated() { lines[index].points.append((Double(count), series.median)) }
        let largest = count == 100_000
        for (what, series, unit, goal) in [
            ("fork", forks.fork, "us", 1.05), ("fork to reaped", forks.total, "us", nil),
            ("page faults of the parent", forks.parentFaults, "faults", 1), ("page faults of the child", forks.childFaults, "faults", 1),
        ] as [(String, [Series], String, Double?)] {
            for peer in 1...3 {
                rows.append(
                    Row(
                        "\(what), \(locks)", series[0].median, unit, peer: kinds[peer].name, ratio: series[0].ratio(to: series[peer]),
                        goal: largest && peer == 1 ? goal : nil))
            }
        }
        let faults = (parent: forks.parentFaults[0].median, child: forks.childFaults[0].median)
        let one = faultsWithOne ?? faults
        faultsWithOne = one
        if largest {
            // One more or less is where in its page the stack begins.
            rows.append(Row("page faults of the parent, more than with 1 lock", faults.parent - one.parent, "faults", goal: 1))
            rows.append(Row("page faults of the child, more than with 1 lock", faults.child - one.child, "faults", goal: 1))
        }
    }
    return [
        Table(
            title: "Fork over number of locks",
            method: "forks of processes of their own, each lock in memory as a ForkMutex has it and used by two threads that live; "
                + "medians of \(processes) x \(rounds) rounds, in turns",
            rows: rows,
            plot: Plot(
                name: "fork-cost", title: "What a fork costs, over the number of locks",
                x: "locks", y: "time of fork() in the parent, microseconds", lines: lines))
    ]
}

/// What a process that registers nothing and takes no lock pays for a fork because ForkGuard is linked: two programs of the same source.
func benchmarkIdle() -> [Table] {
    let rounds = rounds(300), processes = quick ? 2 : 16
    var rows: [Row] = []
    for threads in [0, 4] {
        let kinds = [true, false].map { Kind(name: $0 ? "linked" : "the same without ForkGuard", guarded: $0, load: "idle", size: threads) }
        let forks = measure(kinds, rounds: rounds, processes: processes)
        for (what, series, unit) in [
            ("fork", forks.fork, "us"), ("fork to reaped", forks.total, "us"),
            ("page faults of the parent", forks.parentFaults, "faults"), ("page faults of the child", forks.childFaults, "faults"),
        ] {
            let name = what + ", \(threads) idle threads"
            rows.append(Row(name, series[0].median, unit, peer: kinds[1].name, ratio: series[0].ratio(to: series[1])))
            if what == "fork" {
                let more = median(zip(series[0].values, series[1].values).map { $0 - $1 })
                rows.append(Row(name + ", more than without", more, "us", goal: 3))
            }
        }
    }
    return [
        Table(
            title: "Fork of an idle process",
            method: "with ForkGuard linked and without; medians of \(processes) pairs of processes x \(rounds) rounds, in turns",
            rows: rows)
    ]
}

private struct Kind {
    let name: String
    let guarded: Bool
    let load: String
    let size: Int
}

/// Times in microseconds.
private struct Measured {
    var fork: [Series], total: [Series], parentFaults: [Series], childFaults: [Series]
}

private func measure(_ kinds: [Kind], rounds: Int, processes: Int) -> Measured {
    let warmUp = 3
    let all = (0..<processes).map { _ in kinds.map { LoadProcess(guarded: $0.guarded, $0.load, $0.size) } }
    let empty = kinds.map { Series($0.name) }
    var measured = Measured(fork: empty, total: empty, parentFaults: empty, childFaults: empty)
    for round in 0..<rounds + warmUp {
        for set in all {
            // Who comes later finds the others' traces in the caches, so they change places.
            for turn in set.indices {
                let index = (round + turn) % set.count
                let fork = set[index].fork()[0]
                guard round >= warmUp else { continue }
                measured.fork[index].values.append(Double(fork.nanoseconds) / 1000)
                measured.total[index].values.append(Double(fork.total_nanoseconds) / 1000)
                measured.parentFaults[index].values.append(Double(fork.parent_faults))
                measured.childFaults[index].values.append(Double(fork.child_faults))
            }
        }
    }
    for process in all.joined() { process.end() }
    return measured
}
