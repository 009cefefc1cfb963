import CBench
import CForkGuard
import ForkGuard
import Glibc
import Synchronization

/// Pairs of threads that play ping-pong: each waits for its turn, gives it to the other and wakes it. How many round trips a second all of
/// them get through together.
func benchmarkCondition() -> [Table] {
    let rounds = rounds(60), nanoseconds: UInt64 = 20_000_000
    var rows: [Row] = []
    for (name, inside) in [("woken after unlocking", false), ("woken with the lock held", true)] {
        // Where two threads that wake each other run decides more than anything else, and may stay as it is for a whole run.
        for (pairs, placement) in [(1, Placement.sameProcessor), (1, .ownProcessors), (4, .anywhere)] {
            // New ones for each round, and the old ones kept: which of them share a cache line is chance.
            let sets = (0...rounds).map { _ in games(pairs, placement, wakingInside: inside) }
            var runs = 0
            let variants = sets[0].enumerated().map { index, game in
                (
                    name: game.name,
                    measure: {
                        let game = sets[runs / sets[0].count][index]
                        runs += 1
                        return game.run(nanoseconds: nanoseconds)
                    }
                )
            }
            let series = interleaved(rounds: rounds, variants)
            let suffix = ", \(pairs * 2) threads \(placement.rawValue), \(name)"
            for (ours, theirs, goal) in [(0, 2, 1.0), (1, 2, nil), (0, 3, nil)] as [(Int, Int, Double?)] {
                rows.append(
                    Row(
                        series[ours].name + suffix, series[ours].median, "thousand/s", peer: series[theirs].name,
                        ratio: series[ours].ratio(to: series[theirs]), goal: goal))
            }
        }
    }
    return [
        Table(
            title: "Conditions",
            method: "pairs of threads that play ping-pong, round trips of all of them; medians of \(rounds) rounds of 20 ms, in turns",
            rows: rows)
    ]
}

private func games(_ pairs: Int, _ placement: Placement, wakingInside inside: Bool) -> [Game] {
    [
        Game("ForkCondition, ForkMutex", pairs, placement) { ForkTable(wakingInside: inside) },
        Game("forkguard_condition_t, forkguard_lock_t", pairs, placement) { CTable(wakingInside: inside) },
        Game("pthread_cond_t with a deadline, pthread mutex", pairs, placement) { PthreadTable(wakingInside: inside, timed: true) },
        Game("pthread_cond_t without, pthread mutex", pairs, placement) { PthreadTable(wakingInside: inside, timed: false) },
    ]
}

private enum Placement: String {
    case sameProcessor = "on one processor"
    case ownProcessors = "on two processors"
    case anywhere = "on any processor"
}

private enum Turn { case ping, pong, over }

private protocol PingPong: Sendable {
    /// Waits for its turn and gives it to `next`. False when the game is over.
    func play(_ mine: Turn, next: Turn) -> Bool
}

private final class Game: Sendable {
    let name: String
    private let threads: UInt32
    private let seats = Atomic(0)
    private let body: @Sendable (Int, UnsafePointer<Bool>) -> UInt64

    init<Kind: PingPong>(_ name: String, _ pairs: Int, _ placement: Placement, _ make: () -> Kind) {
        self.name = name
        threads = UInt32(pairs * 2)
        let tables = (0..<pairs).map { _ in make() }
        body = { seat, stop in
            let table = tables[seat / 2]
            switch placement {
            case .sameProcessor: bench_pin(0)
            case .ownProcessors: bench_pin(UInt32(seat % 2))
            case .anywhere: break
            }
            if seat % 2 == 1 {
                while table.play(.pong, next: .ping) {}
                return 0
            }
            var trips: UInt64 = 0
            while !bench_stopped(stop) {
                _ = table.play(.ping, next: .pong)
                trips &+= 1
            }
            // Whoever ended by the clock alone would leave the other waiting.
            _ = table.play(.ping, next: .over)
            return trips
        }
    }

    /// Thousand round trips a second. Once for each game.
    func run(nanoseconds: UInt64) -> Double {
        withExtendedLifetime(self) {
            1000
                * bench_hammer(
                    threads, nanoseconds,
                    { context, stop in
                        let game = Unmanaged<Game>.fromOpaque(context!).takeUnretainedValue()
                        return game.body(game.seats.add(1, ordering: .relaxed).oldValue, stop)
                    }, Unmanaged.passUnretained(self).toOpaque())
        }
    }
}

/// Longer than a round lasts: nobody waits in vain.
private let timeout: UInt64 = 10_000_000_000

private final class ForkTable: PingPong {
    private let turn = ForkMutex(Turn.ping)
    private let condition = ForkCondition()
    private let inside: Bool

    init(wakingInside inside: Bool) { self.inside = inside }

    func play(_ mine: Turn, next: Turn) -> Bool {
        let plays = try! condition.wait(turn, timeout: .nanoseconds(timeout), until: { $0 == mine || $0 == .over }) { turn in
            if turn == .over { return false }
            turn = next
            if inside { condition.signal() }
            return true
        }
        if plays && !inside { condition.signal() }
        return plays
    }
}

private final class CTable: PingPong, @unchecked Sendable {
    // @unchecked: the turn is reached with the lock held; the pointers are constants.
    private let lock = UnsafeMutablePointer<forkguard_lock_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<forkguard_condition_t>.allocate(capacity: 1)
    private let turn = UnsafeMutablePointer<Turn>.allocate(capacity: 1)
    private let inside: Bool

    init(wakingInside inside: Bool) {
        self.inside = inside
        lock.initialize(to: forkguard_lock_t())
        condition.initialize(to: forkguard_condition_t())
        turn.initialize(to: .ping)
    }

    deinit {
        lock.deallocate()
        condition.deallocate()
        turn.deallocate()
    }

    func play(_ mine: Turn, next: Turn) -> Bool {
        let deadline = forkguard_nanoseconds() + timeout
        forkguard_lock(lock)
        while turn.pointee != mine && turn.pointee != .over {
            precondition(forkguard_condition_wait(condition, lock, deadline) == 0)
        }
        let plays = turn.pointee == mine
        if plays { turn.pointee = next }
        if plays && inside { forkguard_condition_signal(condition) }
        forkguard_unlock(lock)
        if plays && !inside { forkguard_condition_signal(condition) }
        return plays
    }
}

private final class PthreadTable: PingPong, @unchecked Sendable {
    // @unchecked: as above.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let turn = UnsafeMutablePointer<Turn>.allocate(capacity: 1)
    private let inside: Bool
    private let timed: Bool

    init(wakingInside inside: Bool, timed: Bool) {
        self.inside = inside
        self.timed = timed
        pthread_mutex_init(mutex, nil)
        // The clock that ours has.
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
        turn.initialize(to: .ping)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
        condition.deallocate()
        turn.deallocate()
    }

    func play(_ mine: Turn, next: Turn) -> Bool {
        var deadline = timespec()
        if timed {
            let nanoseconds = bench_nanoseconds() + timeout
            deadline = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
        }
        pthread_mutex_lock(mutex)
        while turn.pointee != mine && turn.pointee != .over {
            precondition((timed ? pthread_cond_timedwait(condition, mutex, &deadline) : pthread_cond_wait(condition, mutex)) == 0)
        }
        let plays = turn.pointee == mine
        if plays { turn.pointee = next }
        if plays && inside { pthread_cond_signal(condition) }
        pthread_mutex_unlock(mutex)
        if plays && !inside { pthread_cond_signal(condition) }
        return plays
    }
}
