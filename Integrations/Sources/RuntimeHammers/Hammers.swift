import Foundation
import Synchronization

/// What the hammers do, and the children after them.
package struct Load: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// New generic types, casts and conformances, for ever: by two threads.
    package static let types = Load(rawValue: 1)
    /// A lazy global's first use.
    package static let lazyGlobals = Load(rawValue: 2)
    /// An NSLock that a thread holds in short turns.
    package static let lock = Load(rawValue: 4)
    /// A `Synchronization.Mutex`, on the thread that forks and contended in the child.
    package static let mutex = Load(rawValue: 8)
    /// Tasks, an actor, queues of Dispatch's: by two threads.
    package static let tasks = Load(rawValue: 16)
}

private let stopped = Atomic<Bool>(false)
private let types = Atomic<UInt64>(0)
private let turns = Atomic<UInt64>(0)
private let batches = Atomic<UInt64>(0)
private let holding = Atomic<Bool>(false)
private let initializing = Atomic<Int>(-1)
private let initialized = Atomic<Int>(0)
private let wanted = Atomic<Int>(-1)
let lock = NSLock()

// The C library's, without a lock. Unchecked: made before there are threads, freed by nobody.
private nonisolated(unsafe) let wantedGlobal: UnsafeMutablePointer<sem_t> = {
    let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    sem_init(semaphore, 0, 0)
    return semaphore
}()

// A thread's handle is a number; used by start and stop only.
private let threads = Mutex<[pthread_t]>([])

/// The initialiser of the lazy globals: it takes some milliseconds: a thread that forks must find it there.
@inline(never)
func slowly(_ index: Int) -> Int {
    initializing.store(index, ordering: .releasing)
    let end = clock_gettime_nsec() + 4_000_000
    while clock_gettime_nsec() < end {}
    initializing.store(-1, ordering: .releasing)
    return index &* 7 &+ 1
}

private func clock_gettime_nsec() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}

package enum Hammers {
    /// How many levels a hammered type has: no type comes twice until all 2^24 have been.
    static let depth = 24

    package static func start(_ load: Load) {
        // All that a child uses without wanting to is used here.
        _ = (lazyGlobals.count, wantedGlobal, lock, prepare([.mutex], 0), counts)
        if load.contains(.types) { for _ in 0..<2 { start(hammerTypes) } }
        if load.contains(.lazyGlobals) { start(hammerGlobals) }
        if load.contains(.lock) { start(hammerLock) }
        if load.contains(.tasks) { for _ in 0..<2 { start(hammerTasks) } }
        if load.contains(.tasks) { while batches.load(ordering: .relaxed) < 10 { sched_yield() } }
        if load.contains(.types) { while types.load(ordering: .relaxed) < 100 { sched_yield() } }
    }

    package static func stop() {
        stopped.store(true, ordering: .releasing)
        sem_post(wantedGlobal)
        for thread in threads.withLock({ $0 }) { pthread_join(thread, nil) }
    }

    /// Before fork number `index`, on the thread that is going to fork: what of the load is in progress now.
    package static func prepare(_ load: Load, _ index: Int) -> Load {
        var inside: Load = []
        let begun = index % lazyGlobalsOfParents
        if load.contains(.mutex) { useMutex() }
        if load.contains(.lazyGlobals) {
            let before = initialized.load(ordering: .acquiring)
            wanted.store(begun, ordering: .releasing)
            sem_post(wantedGlobal)
            while initializing.load(ordering: .acquiring) != begun, initialized.load(ordering: .acquiring) == before { sched_yield() }
        }
        if initializing.load(ordering: .acquiring) == begun { inside.insert(.lazyGlobals) }
        if holding.load(ordering: .acquiring) { inside.insert(.lock) }
        return inside
    }

    /// How many types were made, how many lazy globals initialised, how many turns with the lock taken, how many batches of tasks done.
    package static var counts: (types: UInt64, lazyGlobals: Int, turns: UInt64, batches: UInt64) {
        (
            types.load(ordering: .relaxed), initialized.load(ordering: .relaxed), turns.load(ordering: .relaxed),
            batches.load(ordering: .relaxed)
        )
    }

    private static func start(_ body: @escaping @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer?) {
        var thread = pthread_t()
        precondition(pthread_create(&thread, nil, body, nil) == 0)
        threads.withLock { $0.append(thread) }
    }
}

private func hammerTypes(_: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    while !stopped.load(ordering: .relaxed) {
        let bits = types.wrappingAdd(1, ordering: .relaxed).newValue
        precondition(makeType(Int.self, bits, depth: Hammers.depth, of: 0) == 3)
    }
    return nil
}

private func hammerGlobals(_: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    while true {
        while sem_wait(wantedGlobal) != 0 {}
        if stopped.load(ordering: .acquiring) { return nil }
        let index = wanted.load(ordering: .acquiring)
        precondition(lazyGlobals[index]() == index &* 7 &+ 1)
        initialized.wrappingAdd(1, ordering: .releasing)
    }
}

private func hammerTasks(_: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    while !stopped.load(ordering: .relaxed) {
        precondition(useTasks())
        batches.wrappingAdd(1, ordering: .relaxed)
    }
    return nil
}

private func hammerLock(_: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    while !stopped.load(ordering: .relaxed) {
        lock.lock()
        holding.store(true, ordering: .releasing)
        usleep(300)  // the turn: nothing is waited for
        holding.store(false, ordering: .releasing)
        lock.unlock()
        turns.wrappingAdd(1, ordering: .relaxed)
        usleep(100)
    }
    return nil
}
