import CBench
import CForkGuard
import ForkGuard
import Foundation
import Glibc
import NIOConcurrencyHelpers
import Synchronization

/// The locks that are compared, each around a value of its own.
final class LockSet {
    let forkMutex = ForkMutex<UInt64>(0)
    let forkLock = CellWith(forkguard_lock_t())
    let nio = NIOLock()
    let nioBox = NIOLockedValueBox<UInt64>(0)
    let ns = NSLock()
    let standard = StandardMutex()
    let pthread = CellWith(pthread_mutex_t())
    let bare = CellWith(bench_spinlock())
    let nioValue = CellWith(UInt64(0))
    let nsValue = CellWith(UInt64(0))

    init() { pthread_mutex_init(pthread.beside, nil) }
    deinit { pthread_mutex_destroy(pthread.beside) }
}

/// The peers that a goal is about: locks for general use. A bare compare-and-swap is a bound, not a peer.
let lockNames = [
    "ForkMutex", "forkguard_lock", "NIOLock", "NIOLockedValueBox", "NSLock", "Synchronization.Mutex", "pthread mutex",
    "bare compare-and-swap",
]
let lockPeers = 2..<7
let bareLock = 7

/// A value in memory of its own, beside that of a lock: a property of a class would be checked for exclusive access each time.
final class CellWith<Beside> {
    let beside = UnsafeMutablePointer<Beside>.allocate(capacity: 1)
    let value = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)

    init(_ beside: Beside) {
        self.beside.initialize(to: beside)
        value.initialize(to: 0)
    }

    deinit {
        beside.deallocate()
        value.deallocate()
    }
}

final class StandardMutex: Sendable {
    let mutex = Mutex<UInt64>(0)
}

/// Uncontended lock and unlock around an increment.
func benchmarkLocks() -> [Table] {
    let rounds = rounds(400)
    let locks = LockSet()
    let (forkLock, pthread, bare) = (locks.forkLock, locks.pthread, locks.bare)
    let runs: [(Int) -> Void] = [
        { [lock = locks.forkMutex] calls in for _ in 0..<calls { lock.withLock { $0 &+= 1 } } },
        { calls in
            for _ in 0..<calls {
                forkguard_lock(forkLock.beside)
                forkLock.value.pointee &+= 1
                forkguard_unlock(forkLock.beside)
            }
        },
        { [lock = locks.nio, value = locks.nioValue.value] calls in for _ in 0..<calls { lock.withLock { value.pointee &+= 1 } } },
        { [lock = locks.nioBox] calls in for _ in 0..<calls { lock.withLockedValue { $0 &+= 1 } } },
        { [lock = locks.ns, value = locks.nsValue.value] calls in
            for _ in 0..<calls {
                lock.lock()
                value.pointee &+= 1
                lock.unlock()
            }
        },
        { [lock = locks.standard] calls in for _ in 0..<calls { lock.mutex.withLock { $0 &+= 1 } } },
        { calls in
            for _ in 0..<calls {
                pthread_mutex_lock(pthread.beside)
                pthread.value.pointee &+= 1
                pthread_mutex_unlock(pthread.beside)
            }
        },
        { calls in
            for _ in 0..<calls {
                bench_spinlock_lock(bare.beside)
                bare.value.pointee &+= 1
                bench_spinlock_unlock(bare.beside)
            }
        },
    ]
    let series = withExtendedLifetime(locks) {
        interleaved(rounds: rounds, calls: 10_000, zip(lockNames, runs).map { (name: $0, run: $1) })
    }
    let fastest = lockPeers.min { series[$0].median < series[$1].median }!
    return [
        Table(
            title: "Uncontended lock and unlock",
            method: "around an increment, in a process with two threads; medians of \(rounds) rounds of 10,000 each, in turns",
            rows: lockRows(series, "ns", "", best: fastest, goal: 0.9, bareGoal: 1.1))
    ]
}

/// ForkMutex against each of the others, the goals at the best peer and the bare one; then forkguard_lock against these two, and the bare one against the best: no lock of two atomic operations can do better; then
/// the others by themselves.
func lockRows(_ series: [Series], _ unit: String, _ suffix: String, best: Int, goal: Double, bareGoal: Double?) -> [Row] {
    func row(_ ours: Series, _ index: Int, goals: Bool) -> Row {
        let goal = !goals ? nil : index == best ? goal : index == bareLock ? bareGoal : nil
        let peer = series[index].name + (index == best ? ", the best of the peers" : "")
        return Row(ours.name + suffix, ours.median, unit, peer: peer, ratio: ours.ratio(to: series[index]), goal: goal)
    }
    return (2..<series.count).map { row(series[0], $0, goals: true) } + [best, bareLock].map { row(series[1], $0, goals: false) }
        + [row(series[bareLock], best, goals: false)]
        + series[2...].map { Row($0.name + suffix, $0.median, unit) }
}
