import CBench
import CForkGuard
import ForkGuard
import Glibc
import NIOConcurrencyHelpers

/// Threads that hammer one lock: how many sections a second all of them get through together.
func benchmarkContended() -> [Table] {
    let rounds = rounds(30), nanoseconds: UInt64 = 25_000_000
    var rows: [Row] = []
    for (name, length) in [("20 ns", 20.0), ("2 us", 2000.0)] {
        let steps = stepsFor(nanoseconds: length)
        for threads in [2, 4, 16] as [UInt32] {
            // New locks for each round, and the old ones kept: whether a lock and its value share a cache line is chance, and decides much.
            let sets = (0...rounds).map { _ in LockSet() }
            var runs = 0
            let variants = lockNames.enumerated().map { index, name in
                (
                    name: name,
                    measure: {
                        let hammer = hammers(sets[runs / lockNames.count], steps)[index]
                        runs += 1
                        return hammer.run(threads: threads, nanoseconds: nanoseconds)
                    }
                )
            }
            let series = withExtendedLifetime(sets) { interleaved(rounds: rounds, variants) }
            let best = lockPeers.max { series[$0].median < series[$1].median }!
            rows += lockRows(series, "million/s", ", \(threads) threads, \(name)", best: best, goal: 1.0, bareGoal: nil)
        }
    }
    return [
        Table(
            title: "Contended lock and unlock",
            method: "threads that hammer one lock, sections of some 20 ns or 2 us and as much work between them, "
                + "how many sections all of them get through; medians of \(rounds) rounds of 25 ms, in turns, new locks for each",
            rows: rows)
    ]
}

/// How many steps of work take that long, as found now.
private func stepsFor(nanoseconds: Double) -> UInt32 {
    let steps: UInt32 = 10_000
    var sink: UInt64 = 1
    let times = (0..<100).map { _ in
        let began = bench_nanoseconds()
        sink = bench_work(sink, steps)
        return Double(bench_nanoseconds() - began)
    }
    precondition(sink != 0)
    return UInt32(max(1, nanoseconds / times.min()! * Double(steps)))
}

private func hammers(_ locks: LockSet, _ steps: UInt32) -> [Hammer] {
    let (forkLock, pthread, bare) = (locks.forkLock, locks.pthread, locks.bare)
    let (nioValue, nsValue) = (locks.nioValue.value, locks.nsValue.value)
    return [
        Hammer(steps) { [lock = locks.forkMutex] in lock.withLock { $0 = bench_work($0, steps) } },
        Hammer(steps) {
            forkguard_lock(forkLock.beside)
            forkLock.value.pointee = bench_work(forkLock.value.pointee, steps)
            forkguard_unlock(forkLock.beside)
        },
        Hammer(steps) { [lock = locks.nio] in lock.withLock { nioValue.pointee = bench_work(nioValue.pointee, steps) } },
        Hammer(steps) { [lock = locks.nioBox] in lock.withLockedValue { $0 = bench_work($0, steps) } },
        Hammer(steps) { [lock = locks.ns] in
            lock.lock()
            nsValue.pointee = bench_work(nsValue.pointee, steps)
            lock.unlock()
        },
        Hammer(steps) { [lock = locks.standard] in lock.mutex.withLock { $0 = bench_work($0, steps) } },
        Hammer(steps) {
            pthread_mutex_lock(pthread.beside)
            pthread.value.pointee = bench_work(pthread.value.pointee, steps)
            pthread_mutex_unlock(pthread.beside)
        },
        Hammer(steps) {
            bench_spinlock_lock(bare.beside)
            bare.value.pointee = bench_work(bare.value.pointee, steps)
            bench_spinlock_unlock(bare.beside)
        },
    ]
}

private final class Hammer {
    private let body: (UnsafePointer<Bool>) -> UInt64

    // Inlined where a variant is made, so that the loop calls no closure.
    @inline(__always)
    init(_ outside: UInt32, _ call: @escaping () -> Void) {
        body = { stop in
            var calls: UInt64 = 0
            while !bench_stopped(stop) {
                call()
                calls &+= 1
                _ = bench_work(calls, outside)
            }
            return calls
        }
    }

    func run(threads: UInt32, nanoseconds: UInt64) -> Double {
        withExtendedLifetime(self) {
            bench_hammer(
                threads, nanoseconds,
                { context, stop in Unmanaged<Hammer>.fromOpaque(context!).takeUnretainedValue().body(stop) },
                Unmanaged.passUnretained(self).toOpaque())
        }
    }
}
