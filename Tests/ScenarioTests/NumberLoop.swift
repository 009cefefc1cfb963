import CEpoll
import ForkGuard
import Glibc

/// The unguarded twin of `EventLoop`: it knows descriptors by their numbers, as asyncio's selector loop does.
final class NumberLoop: Sendable {
    /// What asyncio says as "File descriptor N is used by transport".
    struct IsUsed: Error { let number: Int32 }

    typealias Handler = @Sendable () -> Void

    private struct State {
        var handlers: [Int32: Handler] = [:]
        var later: [@Sendable () -> Void] = []
    }

    let set = epoll_create1(Int32(EPOLL_CLOEXEC))
    private let state = ForkMutex(State(), name: "loop of numbers")

    deinit { close(set) }

    func add(_ number: Int32, _ events: EPOLL_EVENTS, _ handler: @escaping Handler) throws {
        try state.withLock { state in
            if state.handlers[number] != nil { throw IsUsed(number: number) }
            var event = epoll_event(events: events.rawValue, data: epoll_data_t(fd: number))
            epoll_ctl(set, EPOLL_CTL_ADD, number, &event)
            state.handlers[number] = handler
        }
    }

    func remove(_ number: Int32) {
        state.withLock { state in
            var event = epoll_event()
            epoll_ctl(set, EPOLL_CTL_DEL, number, &event)
            state.handlers[number] = nil
        }
    }

    /// Called in the loop's next turn, as asyncio's callbacks of a cancelled future are.
    func soon(_ body: @escaping @Sendable () -> Void) { state.withLock { $0.later.append(body) } }

    func turn(milliseconds: Int32) {
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        let count = epoll_wait(set, &events, 64, milliseconds)
        for event in events.prefix(Int(max(0, count))) { state.withLock({ $0.handlers[event.data.fd] })?() }
        let bodies = state.withLock { state in
            defer { state.later = [] }
            return state.later
        }
        for body in bodies { body() }
    }
}
