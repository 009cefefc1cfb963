import CBench
import ForkGuard
import Glibc
import NIOConcurrencyHelpers

/// Uncontended check-out and return of one that is idle.
func benchmarkPools() -> [Table] {
    let rounds = rounds(200)
    let mutexed = ForkMutex(Connection())
    let pool = try! ForkPool(maximum: 8) { Connection() }
    let timed = try! ForkPool(maximum: 8, idleTimeout: .seconds(60)) { Connection() }
    let array = ForkMutex([Connection()])
    let nio = NIOLockedValueBox(Connection())
    try! pool.withResource { _ in }
    let series = interleaved(
        rounds: rounds, calls: 10_000,
        [
            ("a connection in a ForkMutex", { calls in for _ in 0..<calls { mutexed.withLock { $0.uses &+= 1 } } }),
            ("a connection in a NIOLockedValueBox", { calls in for _ in 0..<calls { nio.withLockedValue { $0.uses &+= 1 } } }),
            (
                "an array of them in a ForkMutex",
                { calls in
                    for _ in 0..<calls {
                        let connection = array.withLock { $0.popLast()! }
                        connection.uses &+= 1
                        array.withLock { $0.append(connection) }
                    }
                }
            ),
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
        ])
    func row(_ pool: Series, _ peer: Series, goal: Double? = nil) -> Row {
        Row(pool.name, pool.median, "ns", peer: peer.name, ratio: pool.ratio(to: peer), goal: goal)
    }
    return [
        Table(
            title: "A pool's lease and return",
            method: "uncontended, of one that is idle; medians of \(rounds) rounds of 10,000 each, in turns",
            rows: series[3...].map { row($0, series[0], goal: $0.name.hasSuffix("time-out") ? nil : 3) }
                + series[1...2].map { row(series[3], $0) } + series[...2].map { Row($0.name, $0.median, "ns") })
    ]
}

/// The first question to a pool in a child, which abandons what the pool had idle in the parent.
func benchmarkDiscards() -> [Table] {
    let rounds = rounds(50)
    let rows = [1, 100_000].map { idle in
        let pool = try! ForkPool(maximum: idle) { Connection() }
        let leases = UnsafeMutableBufferPointer<ForkPool<Connection>.Lease>.allocate(capacity: idle)
        for index in leases.indices { leases.initializeElement(at: index, to: try! pool.checkOut()) }
        for index in leases.indices { leases.moveElement(from: index).giveBack() }
        leases.deallocate()
        precondition(pool.counters.idle == idle)
        let times = (0..<rounds).map { _ in
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
        return Row("with \(idle) idle", median(times), "ns")
    }
    return [Table(title: "A pool's discard in a child", method: "the first question to it there; medians of \(rounds) forks", rows: rows)]
}

private final class Connection: @unchecked Sendable {
    // @unchecked: used by the one thread that has it.
    var uses = 0
}
