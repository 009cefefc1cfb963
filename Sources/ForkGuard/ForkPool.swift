public import CForkGuard

/// A bounded pool of connections, or whatever else is dear to make and used by one thread at a time, that knows which process it is in.
///
///     let pool = try ForkPool(name: "redis", maximum: 8, close: { $0.close() }) { try Connection() }
///     let answer = try pool.withResource { try $0.send("PING") }
///
/// It makes a resource when one is wanted and none is idle, at most `maximum` at once, and gives out the one that came back last. Who finds all in use waits, up to
/// a deadline; first come, first served.
///
/// A child begins with an empty pool. What the parent has idle is not walked, closed or deinitialised there, but abandoned, which takes the same time for any
/// number: a resource that says goodbye, or whose deinitialiser does, would end the parent's connection. It is lost on purpose; its memory is a copy that the child
/// never writes to. What threads of the parent have leased counts for nothing: the child may have `maximum` of its own. One that the child's thread brings
/// along, because it forked inside ``withResource(timeout:_:)``, is abandoned when it comes back.
/// With `discardsAfterFork: false` the child keeps the idle ones and those that its thread brings along.
///
/// The pool takes a mutex of its own, but never while it calls one of its closures: a fork does not wait for them. It registers nothing, and asks whether
/// it was forked when it is used.
///
/// Any thread, any side of a fork. Not in hooks if it may have to wait.
public final class ForkPool<Resource: Sendable>: Sendable {
    /// What a pool has done in this process: a child begins at 0.
    public struct Counters: Sendable, Equatable {
        /// How many resources were made.
        public var made: Int
        /// How many are idle now.
        public var idle: Int
        /// How many are in use now, or being made, checked or closed.
        public var leased: Int
        /// How many times a thread or a task found all in use and waited.
        public var waited: Int
        /// How many were closed: unhealthy, idle for too long, left by an error, discarded, or because the pool was closed. Those of the parent that a child
        /// abandons are not counted.
        public var discarded: Int

        /// For comparing with.
        public init(made: Int = 0, idle: Int = 0, leased: Int = 0, waited: Int = 0, discarded: Int = 0) {
            self.made = made
            self.idle = idle
            self.leased = leased
            self.waited = waited
            self.discarded = discarded
        }
    }

    /// A resource that is in use. End it with ``giveBack()`` or ``discard()``.
    ///
    /// One that is forgotten, by an error on the way for example, is closed, not given back: nobody knows in the middle of what it was left, and the next thread
    /// would read the answer to this one's question.
    public struct Lease: ~Copyable, Sendable {
        @usableFromInline let pool: ForkPool
        @usableFromInline let generation: UInt64
        /// `nil` when it is over.
        @usableFromInline var held: Resource?

        @inlinable
        init(pool: ForkPool, generation: UInt64, resource: consuming Resource) {
            self.pool = pool
            self.generation = generation
            held = resource
        }

        @inlinable
        deinit { if let held { pool.retire(held, of: generation) } }

        /// What is leased. Do not use it after the lease.
        @inlinable
        public var resource: Resource { held.unsafelyUnwrapped }

        /// Gives it back for others to use. In a child, one that was leased in the parent is abandoned.
        @inlinable
        public consuming func giveBack() { pool.giveBack(held.take().unsafelyUnwrapped, of: generation) }

        /// Closes it: it is not fit for others. In a child, one that was leased in the parent is abandoned.
        @inlinable
        public consuming func discard() { pool.retire(held.take().unsafelyUnwrapped, of: generation) }
    }

    @usableFromInline let storage: ForkMutex<ForkPoolStorage<Resource>>
    /// Whether there is an idle time-out: without one nobody looks at the clock.
    @usableFromInline let keepsTime: Bool
    @usableFromInline let idleNanoseconds: UInt64
    // Set once, with the mutex locked, and read so. Outside of the storage, because a closed pool stays closed in a child that finds that torn.
    nonisolated(unsafe) private let isClosed: UnsafeMutablePointer<Bool>

    private let name: String?
    private let file: StaticString
    private let line: UInt32
    private let maximum: Int
    private let discardsAfterFork: Bool
    @usableFromInline let isHealthy: (@Sendable (Resource) -> Bool)?
    private let isReusable: @Sendable (any Error) -> Bool
    private let closeResource: @Sendable (Resource) -> Void
    private let makeResource: @Sendable () throws -> Resource

    /// An empty pool. The closures are called without a lock, on the thread that checks out or gives back, by several threads at once. They may use the
    /// pool; a check-out inside `make` has a place of its own.
    ///
    /// - Parameters:
    ///   - name: names the pool in errors; `file` and `line` are given there too.
    ///   - maximum: how many there are at most at once, those included that are being made or closed.
    ///   - idleTimeout: those that are idle for longer are closed, when the pool is used the next time: it has no thread. `nil`: never.
    ///   - discardsAfterFork: whether a child abandons what it inherits. `false` is for what processes may share.
    ///   - isHealthy: asked at check-out about each one that is not new. One that is not healthy is closed, and the next one is tried.
    ///   - isReusable: whether this error of ``withResource(timeout:_:)``'s body leaves the resource whole. Without it all errors close it.
    ///   - close: ends a resource: never one of another process's, unless it does not discard.
    ///   - make: makes a resource. Its errors are thrown by the check-out.
    /// - Throws: ``ForkError/refused(_:)`` when `maximum` is below 1.
    public init(
        name: String? = nil, maximum: Int, idleTimeout: Duration? = nil, discardsAfterFork: Bool = true,
        file: StaticString = #fileID, line: UInt32 = #line,
        isHealthy: (@Sendable (Resource) -> Bool)? = nil,
        isReusableAfter isReusable: @escaping @Sendable (any Error) -> Bool = { _ in false },
        close: @escaping @Sendable (Resource) -> Void = { _ in },
        make: @escaping @Sendable () throws -> Resource
    ) throws(ForkError) {
        guard maximum > 0 else {
            throw .refused("\(Self.named(name)) of at most \(maximum), made at \(file):\(line): it could never give out anything")
        }
        self.name = name
        self.file = file
        self.line = line
        self.maximum = maximum
        self.discardsAfterFork = discardsAfterFork
        self.isHealthy = isHealthy
        self.isReusable = isReusable
        closeResource = close
        makeResource = make
        keepsTime = idleTimeout != nil
        idleNanoseconds = UInt64(max(0, idleTimeout?.clampedNanoseconds ?? 0))
        isClosed = .allocate(capacity: 1)
        isClosed.initialize(to: false)
        storage = ForkMutex(
            ForkPoolStorage(generation: ForkGuard.generation), name: name,
            ifTorn: .rebuild { ForkPoolStorage(generation: ForkGuard.generation) }, file: file, line: line)
    }

    deinit {
        // Each lease keeps the pool, so nothing is out.
        let idle = storage.withLock { storage in
            storage.renew(keepingIdle: !discardsAfterFork)
            return storage.removeAllIdle()
        }
        for resource in idle { closeResource(resource) }
        isClosed.deallocate()
    }

    // ---- using one ----

    /// Runs `body` with a resource that nobody else uses meanwhile. If `body` throws, the resource is closed, unless the pool was told that it is reusable after that
    /// error. Do not let it out of `body`.
    ///
    /// - Parameter timeout: how long to wait at most while all are in use, not counting `make` and the health check. 0 or less does not wait.
    /// - Throws: ``ForkError/timedOut(waitingFor:)``, which names the pool; ``ForkError/closed(_:)``; ``ForkError/staleGeneration(_:generation:)`` in a child that
    ///   one of the pool's closures forked; what `make` and `body` throw.
    ///
    /// Blocks the thread. In asynchronous code the compiler takes the other one, which does not, also for a closure that does not suspend.
    @inlinable
    // Without this the compiler takes this one in asynchronous code when the closure does not suspend, and a thread of the concurrency pool
    // blocks.
    @_disfavoredOverload
    public func withResource<Result: ~Copyable>(timeout: Duration = .seconds(5), _ body: (Resource) throws -> Result) throws -> Result {
        var generation: UInt64 = 0
        let resource = try take(&generation, timeout: timeout)
        let result: Result
        do {
            result = try body(resource)
        } catch {
            leave(resource, of: generation, after: error)
            throw error
        }
        giveBack(consume resource, of: generation)
        return result
    }

    /// Runs `body`, which may suspend, with a resource that nobody else uses meanwhile. As the one that blocks, except for this:
    ///
    /// Waiting for a resource suspends the task, in the same line as threads that wait. `make` runs on a thread of its own, because it may
    /// block: a child that it forks by a raw `fork()` ends with that thread, so it should exec or exit. `isHealthy` and `close` run where
    /// the caller runs, and should not block. So does `body`, with the caller's isolation.
    ///
    /// In a child, a task of the parent's that waits is forgotten, never resumed. What is leased by a body that forked is abandoned when
    /// that ends in the child. Whether tasks run there at all is the Swift runtime's matter.
    ///
    /// - Parameters:
    ///   - timeout: how long to wait at most while all are in use, not counting `make` and the health check. 0 or less does not wait.
    ///   - isolation: the caller's, by default.
    ///   - body: uses the resource, and should end when its task is cancelled: the resource comes back when it ends.
    /// - Throws: what the other one throws; `CancellationError` when the task is cancelled while it waits, or before it would;
    ///   ``ForkError/system(call:errno:)`` when there is no thread to be had for `make`.
    @inlinable
    public func withResource<Result: ~Copyable>(
        timeout: Duration = .seconds(5), isolation: isolated (any Actor)? = #isolation, _ body: (Resource) async throws -> Result
    ) async throws -> Result {
        var generation: UInt64 = 0
        let resource = try await take(&generation, timeout: timeout, isolation: isolation)
        let result: Result
        do {
            result = try await body(resource)
        } catch {
            leave(resource, of: generation, after: error)
            throw error
        }
        giveBack(consume resource, of: generation)
        return result
    }

    /// A resource that nobody else uses until the lease ends, for use that does not fit into one closure. Timeout and errors as for
    /// ``withResource(timeout:_:)``; it blocks the thread.
    @inlinable
    public func checkOut(timeout: Duration = .seconds(5)) throws -> Lease {
        var generation: UInt64 = 0
        let resource = try take(&generation, timeout: timeout)
        return Lease(pool: self, generation: generation, resource: resource)
    }

    /// Closes what is idle, now, and what is leased when it comes back. In a child, call it where the pool is to end: a thread of the parent's that was using the pool keeps it
    /// for ever, so that dropping it may close nothing. Who waits, and who comes later, gets ``ForkError/closed(_:)``, in children that are
    /// forked from now on too. Twice does no harm.
    public func close() {
        let (generation, idle, ended) = storage.withLock { storage in
            storage.renew(keepingIdle: !discardsAfterFork)
            isClosed.pointee = true
            var ended: [ForkPoolStorage<Resource>.Waiting] = []
            while let waiter = storage.endFirst(with: .closed) { ended.append(waiter) }
            return (storage.generation, storage.removeAllIdle(), ended)
        }
        for waiter in ended { waiter.wake() }
        for resource in idle { retire(resource, of: generation) }
    }

    /// What the pool has done in this process; a snapshot.
    public var counters: Counters {
        storage.withLock { storage in
            storage.renew(keepingIdle: !discardsAfterFork)
            return Counters(
                made: storage.made, idle: storage.count, leased: storage.places - storage.count, waited: storage.waited,
                discarded: storage.discarded)
        }
    }

    // ---- the fast ways ----

    @inlinable
    func take(_ generation: inout UInt64, timeout: Duration) throws -> Resource {
        guard let resource = takeIdle(&generation) else { return try takeAny(&generation, timeout: timeout) }
        return isHealthy == nil ? resource : try checked(resource, of: generation) ?? make(for: generation)
    }

    @inlinable
    func take(_ generation: inout UInt64, timeout: Duration, isolation: isolated (any Actor)?) async throws -> Resource {
        guard let resource = takeIdle(&generation) else { return try await takeAny(&generation, timeout: timeout, isolation: isolation) }
        if isHealthy == nil { return resource }
        if let resource = try checked(resource, of: generation) { return resource }
        return try await makeOnThread(for: generation, isolation: isolation)
    }

    /// What came back last, if that is all there is to it.
    @inlinable
    func takeIdle(_ generation: inout UInt64) -> Resource? {
        let late = keepsTime ? lateAt(forkguard_nanoseconds()) : 0
        return storage.withLock { storage in
            // Asked inside the section: no fork can come between this and the use.
            guard storage.count > 0, ForkGuard.isCurrent(storage.generation), !storage.isAnyIdle(since: late) else { return nil }
            generation = storage.generation
            storage.count -= 1
            return (storage.idle.unsafelyUnwrapped + storage.count).move()
        }
    }

    @inlinable
    func giveBack(_ resource: consuming Resource, of generation: UInt64) {
        let now = keepsTime ? forkguard_nanoseconds() : 0
        let storage = self.storage.begin()
        // What is leased in this generation was leased from this storage.
        if storage.pointee.count < storage.pointee.capacity, storage.pointee.first == nil, ForkGuard.isCurrent(generation),
            !storage.pointee.isAnyIdle(since: lateAt(now))
        {
            (storage.pointee.idle.unsafelyUnwrapped + storage.pointee.count).initialize(to: resource)
            if let since = storage.pointee.since { since[storage.pointee.count] = now }
            storage.pointee.count += 1
            self.storage.end()
        } else {
            self.storage.end()
            receive(resource, of: generation)
        }
    }

    /// What is idle since then, or longer, is idle for too long.
    @inlinable
    func lateAt(_ now: UInt64) -> UInt64 { now > idleNanoseconds ? now - idleNanoseconds : 0 }

    // ---- the slow ways ----

    @usableFromInline
    func takeAny(_ generation: inout UInt64, timeout: Duration) throws -> Resource {
        let granted = try takeNow(&generation)
        return try accepted(granted ?? wait(timeout), of: generation) ?? make(for: generation)
    }

    @usableFromInline
    func takeAny(_ generation: inout UInt64, timeout: Duration, isolation: isolated (any Actor)?) async throws -> Resource {
        var granted = try takeNow(&generation)
        if granted == nil { granted = await waitSuspended(timeout, isolation: isolation) }
        if let resource = try accepted(granted!, of: generation) { return resource }
        return try await makeOnThread(for: generation, isolation: isolation)
    }

    /// `nil`: somebody has to wait. `generation` becomes that of what was taken or will be.
    private func takeNow(_ generation: inout UInt64) throws(ForkError) -> ForkPoolStorage<Resource>.Grant? {
        let now = keepsTime ? forkguard_nanoseconds() : 0
        let (current, late, granted) = storage.withLock { storage in
            storage.renew(keepingIdle: !discardsAfterFork)
            return (storage.generation, storage.removeIdle(since: lateAt(now)), take(from: &storage))
        }
        generation = current
        for resource in late { retire(resource, of: current) }
        guard late.isEmpty || ForkGuard.isCurrent(current) else {
            // `close` forked, and this is the child.
            if case .resource(let resource)? = granted { Self.abandon(resource) }
            throw ForkError.staleGeneration(description, generation: current)
        }
        return granted
    }

    /// The resource; `nil` when a place was got, for which one is to be made.
    private func accepted(_ grant: ForkPoolStorage<Resource>.Grant, of generation: UInt64) throws -> Resource? {
        switch grant {
        case .resource(let resource): return try checked(resource, of: generation)
        case .place: return nil
        case .closed: throw ForkError.closed(description)
        case .late: throw ForkError.timedOut(waitingFor: description)
        case .cancelled: throw CancellationError()
        }
    }

    private func take(from storage: inout ForkPoolStorage<Resource>) -> ForkPoolStorage<Resource>.Grant? {
        if isClosed.pointee { return .closed }
        if let resource = storage.pop() { return .resource(resource) }
        if storage.places == maximum { return nil }
        storage.places += 1
        return .place
    }

    private func wait(_ timeout: Duration) -> ForkPoolStorage<Resource>.Grant {
        let waiter = enqueue()
        return waiter.wait(storage, deadline: timeout.deadline) { $0.remove(waiter) } ?? .late
    }

    private func waitSuspended(_ timeout: Duration, isolation: isolated (any Actor)?) async -> ForkPoolStorage<Resource>.Grant {
        let waiter = enqueue()
        return await waiter.wait(storage, deadline: timeout.deadline, late: .late, cancelled: .cancelled) { $0.remove(waiter) }
    }

    /// One who is in the line, unless something has come back meanwhile.
    private func enqueue() -> ForkPoolStorage<Resource>.Waiting {
        let waiter = ForkPoolStorage<Resource>.Waiting()
        storage.withLock { storage in
            if let grant = take(from: &storage) { return waiter.end(grant) }
            storage.waited += 1
            storage.append(waiter)
        }
        return waiter
    }

    /// With the place of the one that is checked the next one is tried; `nil` when a new one is to be made for it.
    @usableFromInline
    func checked(_ resource: Resource, of generation: UInt64) throws -> Resource? {
        var resource = resource
        while true {
            let healthy = isHealthy?(resource) ?? true
            if !healthy && ForkGuard.isCurrent(generation) { closeResource(resource) }
            guard ForkGuard.isCurrent(generation) else { throw abandoning(resource, of: generation) }
            if healthy { return resource }
            let next = storage.withLock { storage in
                storage.discarded += 1
                let next = storage.pop()
                if next != nil { storage.places -= 1 }
                return next
            }
            guard let next else { return nil }
            resource = next
        }
    }

    /// Makes one for a place that is taken.
    @usableFromInline
    func make(for generation: UInt64) throws -> Resource {
        let resource: Resource
        do {
            resource = try makeResource()
        } catch {
            freePlace(of: generation)
            throw error
        }
        let isOpen: Bool? = storage.withLock { storage in
            guard ForkGuard.isCurrent(generation) else { return nil }
            storage.made += 1
            return !isClosed.pointee
        }
        guard let isOpen else { throw abandoning(resource, of: generation) }
        if isOpen { return resource }
        retire(resource, of: generation)
        throw ForkError.closed(description)
    }

    /// The same in a thread of its own, since `make` may block: no actor and no thread of the concurrency pool waits for it.
    @usableFromInline
    func makeOnThread(for generation: UInt64, isolation: isolated (any Actor)?) async throws -> Resource {
        try await withUnsafeThrowingContinuation { continuation in
            do {
                try SystemThread { [self] in
                    let made = Swift.Result { try make(for: generation) }
                    // In a child that `make` forked the task is the parent's.
                    if ForkGuard.isCurrent(generation) { continuation.resume(with: made) }
                }.detach()
            } catch {
                freePlace(of: generation)
                continuation.resume(throwing: error)
            }
        }
    }

    private func freePlace(of generation: UInt64) {
        storage.withLock { storage in ForkGuard.isCurrent(generation) ? storage.freePlace() : nil }?.wake()
    }

    @usableFromInline
    func receive(_ resource: consuming Resource, of generation: UInt64) {
        let now = keepsTime ? forkguard_nanoseconds() : 0
        var returned = Optional(resource)
        let (current, late, served) = storage.withLock { storage -> (UInt64, [Resource], ForkPoolStorage<Resource>.Waiting?) in
            storage.renew(keepingIdle: !discardsAfterFork)
            if storage.generation != generation {
                // The parent's: it has no place here, and gets one if it may stay.
                if discardsAfterFork || storage.places == maximum || isClosed.pointee { return (storage.generation, [], nil) }
                storage.places += 1
            } else if isClosed.pointee {
                return (generation, [], nil)
            }
            let resource = returned.take()!
            let served = storage.endFirst(with: .resource(resource))
            if served == nil { storage.push(resource, at: now, keepsTime: keepsTime) }
            return (storage.generation, storage.removeIdle(since: lateAt(now)), served)
        }
        served?.wake()
        if let resource = returned.take() { retire(resource, of: generation) }
        for resource in late { retire(resource, of: current) }
    }

    @usableFromInline
    func leave(_ resource: consuming Resource, of generation: UInt64, after error: any Error) {
        if isReusable(error) { giveBack(resource, of: generation) } else { retire(resource, of: generation) }
    }

    /// Closes one that is in use, and frees its place after that, so that there are never more than the maximum. One of the parent's is abandoned.
    @usableFromInline
    func retire(_ resource: consuming Resource, of generation: UInt64) {
        if discardsAfterFork && !ForkGuard.isCurrent(generation) { return Self.abandon(resource) }
        closeResource(resource)
        let (isOurs, served) = storage.withLock { storage -> (Bool, ForkPoolStorage<Resource>.Waiting?) in
            storage.renew(keepingIdle: !discardsAfterFork)
            let isCurrent = storage.generation == generation
            if !isCurrent && discardsAfterFork { return (false, nil) }
            storage.discarded += 1
            return (true, isCurrent ? storage.freePlace() : nil)
        }
        served?.wake()
        if !isOurs { Self.abandon(resource) }
    }

    /// The error for a child that one of the closures forked: it has no place.
    private func abandoning(_ resource: consuming Resource, of generation: UInt64) -> ForkError {
        Self.abandon(resource)
        return .staleGeneration(description, generation: generation)
    }

    /// Keeps it for ever, so that it is never deinitialised: what it would then say to the other side would be in the parent's name.
    private static func abandon(_ resource: consuming Resource) {
        UnsafeMutablePointer<Resource>.allocate(capacity: 1).initialize(to: resource)
    }

    private var description: String { "\(Self.named(name)) of at most \(maximum), made at \(file):\(line)" }

    private static func named(_ name: String?) -> String { name.map { "pool '\($0)'" } ?? "a pool" }
}
