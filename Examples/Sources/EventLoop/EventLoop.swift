import CEpoll
public import ForkGuard
import Glibc

/// Waits for many descriptors at once and calls who asked for each: epoll(7), by tokens, for a process that may be forked.
///
/// A child has a loop of its own under the same object. At its first use there it makes a new epoll set, without the parent's registrations
/// but those that asked for it (``InChild``); the parent's set is left alone, so that the parent goes on hearing. The parent's timers and
/// wake-ups stay the parent's, and its closures are abandoned, never deinitialised. Nobody runs the child's loop until somebody there
/// calls ``run()`` or ``start()``.
///
/// An event is known by the number of its registration, which is never used again, not by that of the descriptor: the kernel goes on
/// reporting a closed descriptor while a child has a copy of it. Each registration is armed for one event, and again when its closure has
/// returned; what nobody is registered for is dropped, and not armed again.
///
/// Any thread, any side of a fork; not in hooks. Closures are called one after the other, by the thread that runs the loop.
public final class EventLoop: ForkSafe {
    /// What is waited for, and what happened.
    public struct Events: OptionSet, Sendable {
        /// As epoll_ctl(2) has it.
        public let rawValue: UInt32
        /// As epoll_ctl(2) has it.
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// There is something to read, or the end of it.
        public static let readable = Events(rawValue: EPOLLIN.rawValue)
        /// There is room to write, or the connection is made.
        public static let writable = Events(rawValue: EPOLLOUT.rawValue)
        /// It is broken or hung up. Reported always.
        public static let failed = Events(rawValue: EPOLLERR.rawValue | EPOLLHUP.rawValue)
    }

    /// What becomes of a registration in a child.
    public enum InChild: Sendable {
        /// It is the parent's. For connections.
        case forgotten
        /// The child's loop has it too, in its own set, if its token goes on there. For sockets that listen and are kept.
        case registeredAnew
    }

    /// A descriptor that the loop watches.
    public struct Registration: Sendable, Hashable {
        fileprivate let id: UInt64
        /// What is watched.
        public let descriptor: ForkDescriptor
    }

    /// Something that is to be called later.
    public struct Timer: Sendable, Hashable { fileprivate let id: UInt64 }

    private struct Watch {
        let registration: Registration
        var events: Events
        let inChild: InChild
        let handler: @Sendable (Events) -> Void
    }

    private struct Alarm {
        let timer: Timer
        let instant: ContinuousClock.Instant
        let body: @Sendable () -> Void
    }

    private struct State {
        var set: ForkDescriptor?
        var bell: ForkDescriptor?
        var generation: UInt64 = 0  // whose those are
        var watches: [UInt64: Watch] = [:]
        var alarms: [Alarm] = []  // the next one last
        var nextID: UInt64 = 1  // 0 is the bell's
        var runs = false
        var isStopping = false
        var dropped = 0
    }

    private final class Abandoned {
        let state: State
        init(_ state: State) { self.state = state }
    }

    private let state = ForkMutex(State(), name: "event loop", ifTorn: .rebuild { State() })
    private let hasStopped = ForkCondition(name: "end of the event loop")

    /// A loop that nobody runs yet, and without descriptors of its own until it is used. It registers itself for forks.
    public init() { ForkGuard.register(self, name: "EventLoop") }

    deinit {
        state.withLock { state in
            disown(&state)
            close(&state)
        }
    }

    // ---- descriptors ----

    /// Watches a descriptor. Remove the registration before its token is closed.
    ///
    /// - Parameters:
    ///   - descriptor: what to watch.
    ///   - events: what to wait for.
    ///   - inChild: what becomes of it in a child.
    ///   - handler: called at each event; again as long as there is something to read, say.
    /// - Throws: what the token throws; `ForkError.system`: `EEXIST` when this loop watches it already, `EPERM` for files, `EMFILE` at
    ///   first use.
    @discardableResult
    public func add(
        _ descriptor: ForkDescriptor, _ events: Events, inChild: InChild = .forgotten, _ handler: @escaping @Sendable (Events) -> Void
    ) throws -> Registration {
        try state.withLock { state in
            let set = try claim(&state)
            let registration = Registration(id: state.nextID, descriptor: descriptor)
            let watch = Watch(registration: registration, events: events, inChild: inChild, handler: handler)
            try control(set, EPOLL_CTL_ADD, watch)
            state.nextID += 1
            state.watches[registration.id] = watch
            return registration
        }
    }

    /// Waits for other events from now on. With none of them it reports ``Events/failed`` once at most.
    ///
    /// - Throws: as ``add(_:_:inChild:_:)``; `ForkError.closed` when it was removed.
    public func modify(_ registration: Registration, _ events: Events) throws {
        try state.withLock { state in
            let set = try claim(&state)
            try registration.descriptor.withNumber { _ in }  // the parent's says so
            guard state.watches[registration.id]?.registration == registration else {
                throw ForkError.closed("the registration of \(registration.descriptor)")
            }
            state.watches[registration.id]!.events = events
            try control(set, EPOLL_CTL_MOD, state.watches[registration.id]!)
        }
    }

    /// Ends a registration, in this process. Its closure is not called again, but the loop's thread may be in it just now. Twice does no
    /// harm.
    public func remove(_ registration: Registration) {
        let watch = state.withLock { state -> Watch? in
            disown(&state)
            guard let watch = state.watches[registration.id], watch.registration == registration else { return nil }
            if let set = state.set { try? control(set, EPOLL_CTL_DEL, watch) }
            return state.watches.removeValue(forKey: registration.id)
        }
        _ = watch  // its closure ends here, outside of the section: it may hold what calls the loop when it ends
    }

    // ---- timers ----

    /// Has the loop call `body` once: when that time has passed, to the millisecond; as soon as it gets to it when that is none.
    ///
    /// - Throws: `ForkError.system` with `EMFILE` at first use.
    @discardableResult
    public func schedule(after delay: Duration = .zero, _ body: @escaping @Sendable () -> Void) throws -> Timer {
        try state.withLock { state in
            _ = try claim(&state)
            let alarm = Alarm(timer: Timer(id: state.nextID), instant: .now + delay, body: body)
            state.nextID += 1
            // Those of one instant in the order of the calls.
            let place = state.alarms.lastIndex { $0.instant > alarm.instant }.map { $0 + 1 } ?? 0
            state.alarms.insert(alarm, at: place)
            ring(state)
            return alarm.timer
        }
    }

    /// Does not call it, unless that has begun. Twice does no harm, nor in a child with what is the parent's.
    public func cancel(_ timer: Timer) {
        let alarm = state.withLock { state -> Alarm? in
            disown(&state)
            return state.alarms.firstIndex { $0.timer == timer }.map { state.alarms.remove(at: $0) }
        }
        _ = alarm
    }

    // ---- running ----

    /// Runs the loop on this thread until ``stop()``.
    ///
    /// - Throws: `ForkError.refused` when it runs already; `ForkError.system`; `ForkError.staleGeneration` in a child that a closure of the
    ///   loop's made by a raw `fork()`, when that closure has returned there: this run is the parent's.
    public func run() throws { try serve(begin()) }

    /// Runs the loop on a thread of its own until ``stop()``, and keeps it alive that long. Throws as ``run()``.
    public func start() throws {
        let generation = try begin()
        let context = Unmanaged.passRetained(self).toOpaque()
        var thread = pthread_t()
        let failure = pthread_create(
            &thread, nil,
            {
                let loop = Unmanaged<EventLoop>.fromOpaque($0!).takeRetainedValue()
                try? loop.serve(ForkGuard.generation)
                return nil
            }, context)
        guard failure == 0 else {
            Unmanaged<EventLoop>.fromOpaque(context).release()
            end(generation)
            throw ForkError.system(call: "making the event loop's thread", errno: failure)
        }
        pthread_detach(thread)
    }

    /// Has the loop end when the closure that it is in has returned. Does nothing where none runs.
    public func stop() {
        state.withLock { state in
            guard state.runs, ForkGuard.isCurrent(state.generation) else { return }
            state.isStopping = true
            ring(state)
        }
    }

    /// Waits until this process's loop does not run any more. Not in its closures.
    ///
    /// - Throws: `ForkError.timedOut`.
    public func waitUntilStopped(timeout: Duration) throws {
        try hasStopped.wait(state, timeout: timeout, until: { !$0.runs || !ForkGuard.isCurrent($0.generation) }, { _ in })
    }

    /// How many events came in this process for which nobody is registered any more.
    public var dropped: Int {
        state.withLock { state in
            disown(&state)
            return state.dropped
        }
    }

    /// Frees the tombstones' numbers; the child's first use does it otherwise.
    public func discardAfterFork() { _ = state.withLockIfAvailable { disown(&$0) } }

    // ---- how; all in a section but the last ----

    /// Lets go of another process's loop, but for what asked to be registered anew.
    private func disown(_ state: inout State) {
        // Asked inside the section: no fork can come between this and the use.
        guard state.generation != 0, !ForkGuard.isCurrent(state.generation) else { return }
        let inherited = state
        state = State(watches: inherited.watches.filter { $0.value.inChild == .registeredAnew }, nextID: inherited.nextID)
        try? inherited.set?.close()
        try? inherited.bell?.close()
        // Its closures hold what is the parent's: nothing of it is to be deinitialised here.
        _ = Unmanaged.passRetained(Abandoned(inherited))
    }

    private func close(_ state: inout State) {
        try? state.set?.close()
        try? state.bell?.close()
        (state.set, state.bell, state.generation) = (nil, nil, 0)
    }

    /// This process's set, which is made now if there is none.
    private func claim(_ state: inout State) throws -> ForkDescriptor {
        disown(&state)
        if let set = state.set { return set }
        do {
            state.generation = ForkGuard.generation
            let set = try ForkDescriptor(name: "epoll set") { try check("epoll_create1", epoll_create1(Int32(EPOLL_CLOEXEC))) }
            state.set = set
            let bell = try ForkDescriptor(name: "wake-up of an event loop") {
                try check("eventfd", eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)))
            }
            state.bell = bell
            try control(set, EPOLL_CTL_ADD, bell, EPOLLIN.rawValue, id: 0)
            for watch in state.watches.values where !watch.registration.descriptor.isStale { try control(set, EPOLL_CTL_ADD, watch) }
            return set
        } catch {
            close(&state)
            throw error
        }
    }

    private func control(_ set: ForkDescriptor, _ operation: Int32, _ watch: Watch) throws {
        let events = watch.events.rawValue | EPOLLONESHOT.rawValue
        try control(set, operation, watch.registration.descriptor, events, id: watch.registration.id)
    }

    private func control(_ set: ForkDescriptor, _ operation: Int32, _ descriptor: ForkDescriptor, _ events: UInt32, id: UInt64) throws {
        var event = epoll_event(events: events, data: epoll_data_t(u64: id))
        try set.withNumber { set in
            _ = try descriptor.withNumber { try check("epoll_ctl", epoll_ctl(set, operation, $0, &event)) }
        }
    }

    private func ring(_ state: State) {
        var one: UInt64 = 1
        // It fails when it rings already, as often as it can.
        _ = try? state.bell?.withNumber { write($0, &one, MemoryLayout<UInt64>.size) }
    }

    private func check(_ call: String, _ result: Int32) throws -> Int32 {
        if result < 0 { throw ForkError.system(call: call, errno: errno) }
        return result
    }

    private func begin() throws -> UInt64 {
        try state.withLock { state in
            _ = try claim(&state)
            if state.runs { throw ForkError.refused("an event loop that runs twice at once") }
            state.runs = true
            return state.generation
        }
    }

    private func end(_ generation: UInt64) {
        state.withLock { if $0.generation == generation { ($0.runs, $0.isStopping) = (false, false) } }
        hasStopped.broadcast()
    }

    /// Whether a run of that generation is this process's.
    private func expect(_ generation: UInt64) throws {
        if !ForkGuard.isCurrent(generation) { throw ForkError.staleGeneration("this run of an event loop", generation: generation) }
    }

    /// Where to wait, and how many milliseconds; nil when it is to stop.
    private func next(_ generation: UInt64) throws -> (set: ForkDescriptor, timeout: Int32)? {
        try state.withLock { state in
            try expect(generation)
            guard !state.isStopping, let set = state.set else { return nil }
            guard let alarm = state.alarms.last else { return (set, -1) }
            let (seconds, attoseconds) = ContinuousClock.now.duration(to: alarm.instant).components
            // Rounded up, so that it does not return too early.
            return (set, Int32(clamping: max(0, seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)))
        }
    }

    /// What a timer is to call now.
    private func due(_ generation: UInt64, at now: ContinuousClock.Instant) throws -> (@Sendable () -> Void)? {
        try state.withLock { state in
            try expect(generation)
            guard !state.isStopping, let alarm = state.alarms.last, alarm.instant <= now else { return nil }
            return state.alarms.removeLast().body
        }
    }

    /// Who is to be told of an event.
    private func watch(for id: UInt64, _ generation: UInt64) throws -> Watch? {
        let (watch, isDropped) = try state.withLock { state -> (Watch?, Bool) in
            try expect(generation)
            if id == 0 {
                var count: UInt64 = 0
                _ = try state.bell?.withNumber { read($0, &count, MemoryLayout<UInt64>.size) }
                return (nil, false)
            }
            if let watch = state.watches[id], !watch.registration.descriptor.isStale { return (watch, false) }
            state.dropped += 1
            return (state.watches.removeValue(forKey: id), true)
        }
        return isDropped ? nil : watch
    }

    /// For the next event, after one was handled.
    private func arm(_ id: UInt64, _ generation: UInt64) throws {
        let gone = try state.withLock { state -> Watch? in
            try expect(generation)
            guard let set = state.set, let watch = state.watches[id], !watch.events.isEmpty else { return nil }
            do {
                try control(set, EPOLL_CTL_MOD, watch)
                return nil
            } catch {
                // Its token is closed: nothing is left to arm.
                return state.watches.removeValue(forKey: id)
            }
        }
        _ = gone
    }

    private func serve(_ generation: UInt64) throws {
        defer { end(generation) }
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        while let (set, timeout) = try next(generation) {
            let count = try set.withNumber { epoll_wait($0, &events, Int32(events.count), timeout) }
            if count < 0, errno != EINTR { throw ForkError.system(call: "epoll_wait", errno: errno) }
            for event in events.prefix(Int(max(0, count))) {
                let id = event.data.u64
                guard let watch = try watch(for: id, generation) else { continue }
                watch.handler(Events(rawValue: event.events))
                try arm(id, generation)
            }
            let now = ContinuousClock.now  // a timer that sets itself anew does not keep events away
            while let body = try due(generation, at: now) { body() }
        }
    }
}
