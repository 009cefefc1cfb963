/// What a ``ForkPool`` has in this process. Reached with its mutex locked only.
///
/// A trivial type on purpose: a child overwrites what it inherited, and nothing is released by that.
@usableFromInline
struct ForkPoolStorage<Resource: Sendable>: @unchecked Sendable {
    // @unchecked: the pointers lead to memory that only who has the pool's mutex reaches.

    /// What a check-out gets.
    @usableFromInline
    enum Grant: Sendable {
        case resource(Resource)
        /// The right to make one.
        case place
        case closed
        case late
        case cancelled
    }

    /// A thread or a task that waits. It keeps itself; the line does not.
    @usableFromInline typealias Waiting = Waiter<Grant>

    /// Whose all of this is. Never 0.
    @usableFromInline let generation: UInt64
    /// A stack, `capacity` long, of which the first `count` are there.
    @usableFromInline var idle: UnsafeMutablePointer<Resource>?
    @usableFromInline var count = 0
    /// 0 in a closed pool, so that whoever comes takes the slow way and finds out.
    @usableFromInline var capacity = 0
    /// Who waits, first come first. Nobody does while anything is idle or a place is free: what comes back goes to a waiter, past the stack.
    @usableFromInline var first: Unmanaged<Waiting>?
    var last: Unmanaged<Waiting>?
    /// Since when each of the stack is idle, for pools with an idle time-out.
    @usableFromInline var since: UnsafeMutablePointer<UInt64>?
    /// How many are idle, leased, being made or being closed.
    var places = 0
    var made = 0
    var waited = 0
    var discarded = 0

    init(generation: UInt64) { self.generation = generation }

    /// In a process that is not the one whose this is: begins anew. Nothing inherited is touched, however much it is, except that with
    /// `keepingIdle` the stack stays.
    mutating func renew(keepingIdle: Bool) {
        let generation = ForkGuard.generation
        if self.generation == generation { return }
        var new = Self(generation: generation)
        if keepingIdle {
            new.idle = idle
            new.since = since
            new.count = count
            new.capacity = capacity
            new.places = count
        }
        self = new
    }

    // ---- the stack ----

    mutating func pop() -> Resource? {
        guard count > 0 else { return nil }
        count -= 1
        return (idle! + count).move()
    }

    mutating func push(_ resource: consuming Resource, at now: UInt64, keepsTime: Bool) {
        if count == capacity { grow(keepsTime: keepsTime) }
        (idle! + count).initialize(to: resource)
        since?[count] = now
        count += 1
    }

    private mutating func grow(keepsTime: Bool) {
        let old = self
        capacity = max(4, capacity * 2)
        idle = .allocate(capacity: capacity)
        if let stack = old.idle {
            idle!.moveInitialize(from: stack, count: count)
            stack.deallocate()
        }
        guard keepsTime else { return }
        since = .allocate(capacity: capacity)
        since!.initialize(repeating: 0, count: capacity)
        if let times = old.since {
            since!.update(from: times, count: count)
            times.deallocate()
        }
    }

    /// Whether any, so the lowest, is idle since `time` or longer.
    @inlinable
    func isAnyIdle(since time: UInt64) -> Bool {
        guard let since, count > 0 else { return false }
        return since[0] <= time
    }

    /// Takes those out that are idle since `time` or longer, which are at the bottom. They keep their places.
    mutating func removeIdle(since time: UInt64) -> [Resource] {
        guard let idle, let since else { return [] }
        var late = 0
        while late < count, since[late] <= time { late += 1 }
        if late == 0 { return [] }
        let removed = (0..<late).map { (idle + $0).move() }
        count -= late
        idle.moveInitialize(from: idle + late, count: count)
        since.update(from: since + late, count: count)
        return removed
    }

    /// Takes all out, and the stack away. They keep their places.
    mutating func removeAllIdle() -> [Resource] {
        let removed = (0..<count).map { (idle! + $0).move() }
        idle?.deallocate()
        since?.deallocate()
        idle = nil
        since = nil
        count = 0
        capacity = 0
        return removed
    }

    // ---- those that wait ----

    mutating func append(_ waiter: Waiting) {
        let link = Unmanaged.passUnretained(waiter)
        waiter.previous = last
        if let last { last._withUnsafeGuaranteedRef { $0.next = link } } else { first = link }
        last = link
    }

    mutating func remove(_ waiter: Waiting) {
        if let previous = waiter.previous { previous._withUnsafeGuaranteedRef { $0.next = waiter.next } } else { first = waiter.next }
        if let next = waiter.next { next._withUnsafeGuaranteedRef { $0.previous = waiter.previous } } else { last = waiter.previous }
    }

    /// Gives this to who waits longest, and takes it out of the line; `nil` when nobody waits. To be woken when the mutex is unlocked.
    mutating func endFirst(with grant: Grant) -> Waiting? {
        guard let waiter = first?.takeUnretainedValue() else { return nil }
        remove(waiter)
        waiter.end(grant)
        return waiter
    }

    /// Gives a place back. Who gets it is to be woken when the mutex is unlocked.
    mutating func freePlace() -> Waiting? {
        let waiter = endFirst(with: .place)
        if waiter == nil { places -= 1 }
        return waiter
    }
}
