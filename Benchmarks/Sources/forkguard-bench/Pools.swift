import CBench
import ForkGuard
import Glibc

/// Uncontended check-out and return of one that is idle.
func benchmarkPools() {
    let guarded = ForkMutex(0)
    let pool = try! ForkPool(maximum: 8) { Connection() }
    let timed = try! ForkPool(maximum: 8, idleTimeout: .seconds(60)) { Connection() }
    let array = ForkMutex([Connection()])
    try! pool.withResource { _ in }
    let variants: [(name: String, run: (Int) -> Void)] = [
        ("ForkMutex.withLock", { calls in for _ in 0..<calls { guarded.withLock { $0 &+= 1 } } }),
        ("ForkPool.withResource", { calls in for _ in 0..<calls { try! pool.withResource { $0.uses &+= 1 } } }),
        (
            "ForkPool.checkOut, giveBack",
            { calls in
                for _ in 0..<calls {
                    let lease = try! pool.checkOut()
                    lease.resource.uses &+= 1
                    lease.giveBack()
                }
            }
        ),
        ("ForkPool.withResource with an idle time-out", { calls in for _ in 0..<calls { try! timed.withResource { $0.uses &+= 1 } } }),
        (
            "an array in a ForkMutex",
            { calls in
                for _ in 0..<calls {
                    let connection = array.withLock { $0.popLast()! }
                    connection.uses &+= 1
                    array.withLock { $0.append(connection) }
                }
            }
        ),
    ]
    let medians = interleaved(rounds: 200, calls: 20_000, variants)
    print("uncontended check-out and return, medians of 200 interleaved rounds, nanoseconds")
    for (variant, value) in zip(variants, medians) { print("  \(variant.name): \(rounded(value))") }
    print("  ForkPool.withResource / ForkMutex.withLock: \(rounded(medians[1] / medians[0]))  (promised: at most 3.0)")
    print("  ForkPool.checkOut, giveBack / ForkMutex.withLock: \(rounded(medians[2] / medians[0]))  (promised: at most 3.0)")
}

/// The first question to a pool in a child, which abandons what the pool had idle in the parent.
func benchmarkDiscards() {
    print("a pool's discard in a child, medians of 50 forks, nanoseconds")
    for idle in [1, 100_000] {
        let pool = try! ForkPool(maximum: idle) { Connection() }
        let leases = UnsafeMutableBufferPointer<ForkPool<Connection>.Lease>.allocate(capacity: idle)
        for index in leases.indices { leases.initializeElement(at: index, to: try! pool.checkOut()) }
        for index in leases.indices { leases.moveElement(from: index).giveBack() }
        leases.deallocate()
        precondition(pool.counters.idle == idle)
        let times = (0..<50).map { _ in
            var ends: [Int32] = [-1, -1]
            precondition(pipe(&ends) == 0)
            let write = ends[1]
            let child = try! ForkGuard.fork {
                let began = bench_nanoseconds()
                precondition(pool.counters.idle == 0)
                var time = bench_nanoseconds() - began
                return Glibc.write(write, &time, 8) == 8 ? 0 : 1
            }
            var time: UInt64 = 0
            precondition(try! child.wait() == .exited(0) && read(ends[0], &time, 8) == 8)
            ends.forEach { close($0) }
            return Double(time)
        }
        print("  with \(idle) idle: \(rounded(median(times)))")
    }
}

private final class Connection: @unchecked Sendable {
    // @unchecked: used by the one thread that has it.
    var uses = 0
}
