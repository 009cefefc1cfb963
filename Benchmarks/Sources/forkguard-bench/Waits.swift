import CBench
import CForkLoad
import Glibc

/// How long a fork waits for threads that hammer locks, next to a handler that tries to take every lock and tries again.
func benchmarkWaits() -> [Table] {
    let rounds = quick ? 1 : 12
    let slice = Double(bench_slice_nanoseconds()) / 1000, tick = Double(bench_tick_nanoseconds()) / 1000
    // A thread loses its processor at a tick: a slice lasts until the next one.
    let whole = tick > 0 ? max(1, (slice / tick).rounded(.up)) * tick : slice
    let processors = sysconf(Int32(_SC_NPROCESSORS_ONLN))
    let longest = Double(LOAD_LONG_SECTION_NANOSECONDS) / 1000
    let names = ["ForkGuard", "try-lock and retry"]
    var rows: [Row] = []
    var lines = [
        "ForkGuard, median", "ForkGuard, 99th", "try-lock and retry, median", "try-lock and retry, 99th", "goal for the 99th",
    ].map { Plot.Line(name: $0) }
    for threads in quick ? [1, 16, 250] : [1, 2, 4, 16, 64, 250, 1000] {
        let load = threads == 1 ? "1 thread" : "\(threads) threads"
        let processes = [true, false].map { LoadProcess(guarded: $0, "hammer", threads) }
        var waits: [[Double]] = [[], []], gaveUp = [0, 0]
        for round in 0..<rounds {
            for index in round % 2 == 0 ? [0, 1] : [1, 0] {
                let forks = processes[index].fork()
                waits[index] += forks.map { Double($0.wait_nanoseconds) / 1000 }
                gaveUp[index] += forks.count { $0.gave_up != 0 }
            }
        }
        for process in processes { process.end() }
        let bound = 2 * longest + whole * Double(threads + 1) / Double(processors)
        for (share, name) in [(0.5, "median"), (0.99, "99th percentile"), (0.999, "99.9th percentile")] {
            let (ours, theirs) = (percentile(share, waits[0]), percentile(share, waits[1]))
            rows.append(Row("\(name), \(load)", ours, "us", peer: names[1], ratio: ours / theirs))
            if share == 0.99 {
                rows.append(Row("\(name), \(load)", ours, "us", peer: "2 sections and the slices", ratio: ours / bound, goal: 1))
            }
            rows.append(Row("\(name), \(load), \(names[1])", theirs, "us"))
        }
        for (name, (waits, gaveUp)) in zip(names, zip(waits, gaveUp)) {
            rows.append(Row("forks with \(load), \(name)", Double(waits.count), "forks"))
            rows.append(Row("not prepared at the deadline, \(load), \(name)", Double(gaveUp), "forks", goal: name == names[0] ? 0 : nil))
        }
        let points = [percentile(0.5, waits[0]), percentile(0.99, waits[0]), percentile(0.5, waits[1]), percentile(0.99, waits[1]), bound]
        for (index, wait) in points.enumerated() { lines[index].points.append((Double(threads), wait)) }
    }
    return [
        Table(
            title: "Fork under hammering threads",
            method: "what preparing a fork takes, with 64 locks, sections of 2 us, one in a hundred of \(longest.plain) us, and "
                + "2 us between; up to \(rounds) x 100 forks each, in turns; "
                + "slice \(slice.plain) us, tick \(tick.plain) us, so counted with \(whole.plain) us a thread; "
                + "trying again ends after \((Double(LOAD_DEADLINE_NANOSECONDS) / 1e9).plain) s",
            rows: rows,
            plot: Plot(
                name: "fork-wait", title: "What a fork waits, over the load", x: "hammering threads (\(processors) processors)",
                y: "time until fork() is prepared, microseconds", lines: lines))
    ]
}
