import ForkGuard

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

private final class Connection: @unchecked Sendable {
    // @unchecked: used by the one thread that has it.
    var uses = 0
}
