import CEpoll
import CForkGuard
import EventLoop
import ForkGuard
import ForkGuardTesting
import Glibc
import XCTest

/// The loop itself: what it does in one process, what a child finds, and what goes wrong.
final class EventLoopTests: XCTestCase {
    // ---- one process ----

    func test_timersInOrderOnceAndNotWhenCancelled() throws {
        let loop = EventLoop()
        let order = Order()
        let begun = ContinuousClock.now
        for delay in [30, 10, 20, 10, 0] { try loop.schedule(after: .milliseconds(delay)) { order.add(delay) } }
        let cancelled = try loop.schedule(after: .milliseconds(15)) { order.add(15) }
        loop.cancel(cancelled)
        loop.cancel(cancelled)
        try loop.schedule(after: .milliseconds(40)) { loop.stop() }
        try loop.run()
        XCTAssertEqual(order.all, [0, 10, 10, 20, 30])
        XCTAssertGreaterThanOrEqual(begun.duration(to: .now), .milliseconds(40))
        // A second run begins anew.
        try loop.schedule {
            order.add(1)
            loop.stop()
        }
        try loop.run()
        XCTAssertEqual(order.all.last, 1)
    }

    func test_otherThreadsWakeIt() throws {
        let loop = EventLoop()
        try loop.start()
        XCTAssertThrowsError(try loop.run()) { XCTAssertEqual($0 as? ForkError, .refused("an event loop that runs twice at once")) }
        let tally = Tally()
        try ForkTesting.repeated(20, while: Array(repeating: { @Sendable in tally.add(loop.calls() ? "called" : "late") }, count: 3)) { _ in
        }
        .expectAll("forks of a loop that is woken all the time")
        print("a loop that is woken by three threads: \(tally)")
        XCTAssertGreaterThan(tally["called"], 20)
        XCTAssertEqual(tally["late"], 0)
        XCTAssertThrowsError(try loop.waitUntilStopped(timeout: .milliseconds(1)))
        loop.stop()
        try loop.waitUntilStopped(timeout: .seconds(5))
        loop.stop()
        try loop.waitUntilStopped(timeout: .zero)
    }

    func test_registrationsInItsOwnClosures() throws {
        let loop = EventLoop()
        let (near, far) = try Pair.make()
        let order = Order()
        let mine = ForkMutex<EventLoop.Registration?>(nil)
        let registration = try loop.add(near, .readable) { events in
            order.add(events.contains(.readable) ? 1 : -1)
            guard let registration = mine.withLock({ $0 }) else { return }
            // Level: it is called until the bytes are read. Here it stops itself instead.
            if order.all.count == 3 { loop.remove(registration) }
            _ = try? loop.schedule(after: .milliseconds(order.all.count == 3 ? 20 : 1000)) { loop.stop() }
        }
        mine.withLock { $0 = registration }
        XCTAssertThrowsError(try loop.add(near, .readable) { _ in }) {
            XCTAssertEqual($0 as? ForkError, .system(call: "epoll_ctl", errno: EEXIST))
        }
        try far.withNumber { _ = write($0, "x", 1) }
        try loop.run()
        XCTAssertEqual(order.all, [1, 1, 1])
        XCTAssertThrowsError(try loop.modify(registration, .writable)) {
            XCTAssertEqual($0 as? ForkError, .closed("the registration of \(near)"))
        }
        loop.remove(registration)
        // Anew, for nothing first.
        let again = try loop.add(near, []) { _ in
            order.add(2)
            loop.stop()
        }
        try loop.schedule(after: .milliseconds(20)) {
            order.add(0)
            try! loop.modify(again, .writable)
        }
        try loop.run()
        XCTAssertEqual(order.all, [1, 1, 1, 0, 2])
        // Watched for nothing, it says once that it is broken.
        try loop.modify(again, [])
        try far.close()
        try loop.schedule(after: .milliseconds(20)) { loop.stop() }
        try loop.run()
        try loop.run()  // until the timer
        XCTAssertEqual(order.all, [1, 1, 1, 0, 2, 2])
        try near.close()
        XCTAssertThrowsError(try loop.modify(again, .writable)) { XCTAssertEqual($0 as? ForkError, .closed("\(near)")) }
        XCTAssertThrowsError(try loop.add(near, .readable) { _ in }) { XCTAssertEqual($0 as? ForkError, .closed("\(near)")) }
        loop.remove(again)  // its closure holds the loop
    }

    /// What a closure holds may end with it, and call the loop.
    func test_whatAClosureHoldsEndsOutsideOfTheLoopsLock() throws {
        final class Leaves: Sendable {
            let loop: EventLoop, tally: Tally
            init(_ loop: EventLoop, _ tally: Tally) { (self.loop, self.tally) = (loop, tally) }
            deinit { tally.add(loop.dropped >= 0 ? "ended" : "") }
        }
        let loop = EventLoop(), tally = Tally()
        let kept = try (0..<3).map { _ in try Pair.make(.keep) }
        var registrations: [EventLoop.Registration] = []
        for (index, (near, far)) in kept.enumerated() {
            let leaves = Leaves(loop, tally)
            registrations.append(
                try loop.add(near, .readable) { _ in
                    _ = leaves
                    // The second closes its own.
                    if index == 1 { try? near.close() }
                })
            try far.withNumber { _ = write($0, "x", 1) }
        }
        // The first is removed; the third closed by somebody, while a child has it.
        loop.remove(registrations[0])
        let (hold, letGo) = try Pair.make(.keep)
        let child = try ForkGuard.fork {
            var byte: UInt8 = 0
            try letGo.close()
            return try hold.withNumber { Int32(read($0, &byte, 1)) }
        }
        try kept[2].0.close()
        try loop.schedule(after: .milliseconds(20)) { loop.stop() }
        try loop.run()
        XCTAssertEqual(tally["ended"], 3)
        try letGo.close()
        try hold.close()
        XCTAssertEqual("\(try child.wait(timeout: .seconds(10)))", "exited(0)")
        for token in [kept[0].0] + kept.map(\.1) { try token.close() }
    }

    func test_nothingIsLeftBehind() throws {
        @Sendable func use(_ loop: EventLoop) throws {
            try loop.start()
            XCTAssert(loop.calls())
            loop.stop()
            try loop.waitUntilStopped(timeout: .seconds(5))
        }
        let inherited = EventLoop()
        try use(inherited)
        let descriptors = openDescriptors(), threads = threadCount()
        for _ in 0..<100 { try use(EventLoop()) }
        // Fewer: a thread that ended may have been counted before.
        try waitUntil("descriptors and threads are what they were") { openDescriptors() == descriptors && threadCount() <= threads }
        let before = openDescriptors().count
        try ForkTesting.repeated(20) { context in
            // The set and the eventfd of the parent's, and nothing in their place; then its own.
            let bare = openDescriptors().count
            try use(inherited)
            try use(EventLoop())
            try waitUntil("what the second loop had is closed") { openDescriptors().count == bare + 2 }
            context.expect(bare <= before, "\(before) descriptors in the parent, \(bare) in the child")
        }.expectAll("a child with two loops")
    }

    /// The kernel knows open files, not numbers: while a child has one, its registration goes on in the parent's set, whatever the number
    /// is by now.
    func test_aClosedDescriptorThatAChildHasIsNoStrangersEvent() throws {
        let loop = EventLoop()
        try loop.start()
        let twin = NumberLoop()
        let (near, far) = try Pair.make(.keep), (ownNear, ownFar) = try Pair.make(.keep)
        let (hold, letGo) = try Pair.make(.keep)
        let tally = Tally()
        try loop.add(near, .readable) { _ in tally.add("its own") }
        let number = try ownNear.withNumber { $0 }
        try twin.add(number, EPOLLIN) { tally.add("twin: its own") }
        let child = try ForkGuard.fork {
            var byte: UInt8 = 0
            // Ends with the parent's end, at the latest.
            try letGo.close()
            return try hold.withNumber { Int32(read($0, &byte, 1)) }
        }
        // Not removed before: forgotten, or given up by a thread that knows nothing of the loop.
        try near.close()
        try ownNear.close()
        let (first, second) = try Pair.make()
        for stranger in [first, second] {
            try loop.add(stranger, .readable) { _ in tally.add("stranger") }
            try stranger.withNumber { opened in
                twin.remove(opened)  // nothing to remove in the kernel's list: that is another file
                try twin.add(opened, EPOLLIN) { tally.add("twin: stranger") }
            }
        }
        for _ in 0..<100 {
            for end in [far, ownFar] { try end.withNumber { _ = send($0, "x", 1, Int32(MSG_NOSIGNAL)) } }
            twin.turn(milliseconds: 5)
        }
        try waitUntil("the loop has heard of the closed descriptor") { loop.dropped == 1 }
        print("a closed descriptor that a child has: \(tally), events for nobody \(loop.dropped)")
        XCTAssertEqual(tally["its own"] + tally["stranger"], 0)
        XCTAssertGreaterThan(tally["twin: stranger"], 50, "control")
        XCTAssertEqual(loop.dropped, 1, "it is not armed again")
        try letGo.withNumber { _ = send($0, "x", 1, Int32(MSG_NOSIGNAL)) }
        XCTAssertEqual("\(try child.wait(timeout: .seconds(10)))", "exited(1)")
        loop.stop()
        try loop.waitUntilStopped(timeout: .seconds(5))
        for token in [far, ownFar, hold, letGo, first, second] { try token.close() }
    }

    // ---- the child ----

    func test_everyWayToFork() throws {
        for method in ForkMethod.available where method != .rawCloneSharingFiles {
            let loop = EventLoop()
            let (near, far) = try Pair.make()
            let tally = Tally()
            try loop.add(near, .readable) { _ in tally.add("parent's") }
            try loop.schedule { tally.add("parent's") }
            try ForkTesting.repeated(10, method) { context in
                try far.withNumberIfOurs { context.fail("the parent's token could be used") }
                let (near, far) = try Pair.make()
                try loop.add(near, .readable) { _ in
                    tally.add("child's")
                    loop.stop()
                }
                try far.withNumber { _ = write($0, "x", 1) }
                try loop.run()
                context.expect(tally["child's"] == 1 && tally["parent's"] == 0, "\(tally)")
            }.expectAll("an event loop after \(method)")
            try loop.schedule(after: .milliseconds(5)) { loop.stop() }
            try far.withNumber { _ = write($0, "x", 1) }
            try loop.run()
            XCTAssertGreaterThan(tally["parent's"], 1)
            try near.close()
            try far.close()
        }
    }

    func test_whatIsKeptIsRegisteredAnew() throws {
        let loop = EventLoop()
        try loop.start()
        let listening = try Listening()
        let tally = Tally()
        let registration = try loop.add(listening.token, .readable, inChild: .registeredAnew) { _ in
            try! listening.token.withNumber { number in
                // The other process may have been faster.
                let accepted = accept(number, nil, nil)
                guard accepted >= 0 else { return }
                tally.add(getpid() == listening.parent ? "parent" : "child")
                close(accepted)
            }
        }
        try ForkTesting.repeated(30, while: [{ listening.connect() }]) { context in
            try loop.start()
            try waitUntil("the child has accepted one") { tally["child"] > 0 }
            // The same registration, in its own set.
            try loop.modify(registration, [])
            loop.remove(registration)
            loop.stop()
            try loop.waitUntilStopped(timeout: .seconds(5))
        }.expectAll("a listening socket that parent and child watch")
        let before = tally["parent"]
        listening.connect()
        try waitUntil("the parent goes on accepting") { tally["parent"] > before }
        print("a listening socket: the parent accepted \(tally["parent"])")
        loop.stop()
        try loop.waitUntilStopped(timeout: .seconds(5))
        try listening.token.close()
    }

    /// Kept is the descriptor, for its reader; the watch over it stays the parent's.
    func test_whatIsForgottenIsNotWatchedThoughItsTokenGoesOn() throws {
        let loop = EventLoop()
        let tally = Tally()
        let (near, far) = try Pair.make(.keep)
        let registration = try loop.add(near, .readable) { _ in tally.add("called") }
        try far.withNumber { _ = write($0, "x", 1) }
        try ForkTesting.repeated(20) { context in
            try loop.schedule(after: .milliseconds(5)) { loop.stop() }
            try loop.run()
            context.expect(tally["called"] == 0 && loop.dropped == 0, "the parent's registration")
            loop.remove(registration)
            do {
                try loop.modify(registration, .writable)
                context.fail("the parent's registration could be changed")
            } catch ForkError.closed {
            }
            // Its own of the same descriptor.
            try loop.add(near, .readable) { _ in
                tally.add("called")
                loop.stop()
            }
            try loop.run()
            context.expect(tally["called"] == 1, "its own registration")
        }.expectAll("a kept descriptor that is forgotten by the loop")
        try loop.schedule(after: .milliseconds(5)) { loop.stop() }
        try loop.run()
        XCTAssertGreaterThan(tally["called"], 0)
        try near.close()
        try far.close()
    }

    func test_closuresAreAbandonedNotDeinitialised() throws {
        final class Holder: Sendable {
            let loop = ForkMutex<EventLoop?>(EventLoop())
        }
        let tally = Tally(), holder = Holder()
        func fill(_ loop: EventLoop) throws -> [ForkDescriptor] {
            let (near, far) = try Pair.make()
            let canary = Canary(tally)
            try loop.add(near, .readable) { _ in canary.sing() }
            try loop.schedule(after: .seconds(3600)) { canary.sing() }
            return [near, far]
        }
        let loop = holder.loop.withLock { $0! }
        var ends = try fill(loop)
        try ForkTesting.repeated(20) { context in
            if context.repetition % 2 == 0 {
                try loop.schedule { loop.stop() }
                try loop.run()
            }
            context.expect(tally["deinitialised"] == 0, "the parent's closures: \(tally)")
        }.expectAll("closures abandoned")
        // The child drops the last reference, without having used it, too.
        final class Last: Sendable { let loop = ForkMutex<EventLoop?>(nil) }
        let last = Last()
        ends += try last.loop.withLock { slot in
            let fresh = EventLoop()
            slot = fresh
            return try fill(fresh)
        }
        try ForkTesting.repeated(20) { context in
            last.loop.withLock { $0 = nil }
            context.expect(tally["deinitialised"] == 0, "the parent's closures: \(tally)")
        }.expectAll("a loop dropped in the child")
        last.loop.withLock { $0 = nil }
        XCTAssertEqual(tally["deinitialised"], 1, "in the parent they end with the loop")
        for end in ends { try end.close() }
    }

    func test_behaviour35_nothingPendingReachesTheChild() throws {
        let loop = EventLoop(), busy = EventLoop()
        try busy.start()
        let pending = try Pending()
        let tally = Tally(), parent = getpid()
        @Sendable func heard(_ what: String) { tally.add(getpid() == parent ? what : "ghost") }
        for (what, token) in pending.all {
            try loop.add(token, .readable) { _ in
                var bytes = [UInt8](repeating: 0, count: 8)
                try! token.withNumber { _ = read($0, &bytes, 8) }
                heard(what)
            }
        }
        for _ in 0..<20 { try loop.schedule { heard("timer") } }  // and so the loop's own eventfd
        Pending.raise()
        try ForkTesting.repeated(50, while: Array(repeating: { @Sendable in _ = busy.calls { heard("busy") } }, count: 2)) { context in
            for each in [loop, busy] {
                try each.schedule(after: .milliseconds(10)) { each.stop() }
                try each.run()
                context.expect(each.dropped == 0, "events for nobody")
            }
            context.expect(tally["ghost"] == 0, "\(tally["ghost"]) ghosts")
            // The other way: what the child is sent does not reach the parent.
            if context.repetition == 0 { Pending.raise() }
        }.expectAll("behaviour35")
        try loop.schedule(after: .milliseconds(20)) { loop.stop() }
        try loop.run()
        busy.stop()
        try busy.waitUntilStopped(timeout: .seconds(5))
        print("behaviour35: the parent heard \(tally)")
        for what in ["eventfd", "timerfd", "signal"] { XCTAssertEqual(tally[what], 1, what) }
        XCTAssertEqual(tally["timer"], 20)
        pending.close()
    }

    func test_behaviour35_control_whatIsPendingHauntsTheChild() throws {
        let tally = Tally()
        for _ in 0..<5 {
            let pending = try Pending(), loop = NumberLoop()
            var numbers: [Int32] = []
            for (what, token) in pending.all {
                // By its bare number from now on.
                let number = try token.release()
                numbers.append(number)
                try loop.add(number, EPOLLIN) {
                    var bytes = [UInt8](repeating: 0, count: 8)
                    _ = read(number, &bytes, 8)
                    tally.add(what)
                }
            }
            Pending.raise()
            let outcome = try ForkTesting.run { _ in
                for _ in 0..<3 { loop.turn(milliseconds: 1) }
                return ["eventfd", "timerfd", "signal"].map { tally[$0] }
            }
            for (what, count) in zip(["eventfd", "timerfd", "signal"], try outcome.get()) { tally.add("\(what) in the child", count) }
            for _ in 0..<3 { loop.turn(milliseconds: 20) }
            for number in numbers { close(number) }
            pending.close()
        }
        print("behaviour35, control: \(tally) of 5 each")
        for what in ["eventfd", "timerfd", "signal"] {
            XCTAssertGreaterThanOrEqual(tally["\(what) in the child"], 5, "the child has what was the parent's")
            XCTAssertEqual(tally[what], 0, "and the parent has not")
        }
    }

    // ---- what goes wrong ----

    func test_noDescriptorIsFree() throws {
        let loop = EventLoop()
        let (near, far) = try Pair.make()
        try loop.add(near, .readable) { _ in }
        try ForkTesting.repeated(20) { context in
            let open = openDescriptors()
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            // One is free for a set, none for its eventfd; or none at all.
            for free in 0...1 {
                var none = rlimit(rlim_cur: rlim_t(lowestFree(after: free)), rlim_max: limit.rlim_max)
                setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &none)
                defer { setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) }
                do {
                    try loop.schedule {}
                    context.fail("a loop without a descriptor")
                } catch ForkError.system(_, errno: EMFILE) {
                }
            }
            context.expect(openDescriptors() == open, "descriptors were left behind: \(open), then \(openDescriptors())")
            try loop.schedule { loop.stop() }
            try loop.run()
        }.expectAll("EMFILE at a child's first use")
        try near.close()
        try far.close()
    }

    /// A closure of the loop's that calls a raw fork(), and returns in both.
    func test_aClosureThatForks() throws {
        try ForkTesting.repeated(20) { context in
            let loop = EventLoop()
            let child = ForkMutex<Int32>(-1)
            let (near, far) = try Pair.make()
            try loop.add(near, .readable) { _ in
                let pid = forkguard_fork(0)
                child.withLock { $0 = pid }
                loop.stop()
            }
            try far.withNumber { _ = write($0, "x", 1) }
            do {
                try loop.run()
                if child.withLock({ $0 }) == 0 { _exit(1) }
            } catch ForkError.staleGeneration {
                // The grandchild: that run was not its own. It can have one.
                try loop.schedule { loop.stop() }
                try loop.run()
                _exit(42)
            }
            var status: Int32 = 0
            waitpid(child.withLock { $0 }, &status, 0)
            context.expect(status == 42 << 8, "the grandchild ended with \(status)")
        }.expectAll("a closure that forks")
    }
}

extension EventLoop {
    /// Whether it calls something within seconds.
    fileprivate func calls(_ body: @escaping @Sendable () -> Void = {}) -> Bool {
        let answers = Answers()
        let timer = try? schedule {
            body()
            answers.add([1])
        }
        return timer != nil && (try? answers.take(1, timeout: .seconds(5))) != nil
    }
}

extension ForkDescriptor {
    fileprivate func withNumberIfOurs(_ body: () -> Void) throws {
        do {
            try withNumber { _ in body() }
        } catch ForkError.staleGeneration {
        }
    }
}

private func waitUntil(_ what: String, _ condition: () -> Bool) throws {
    let deadline = ContinuousClock.now + .seconds(10)
    while !condition() {
        if ContinuousClock.now > deadline { throw ForkError.timedOut(waitingFor: what) }
        usleep(1000)
    }
}

private func openDescriptors() -> [Int32] { (0..<1024).filter { fcntl($0, F_GETFD) >= 0 } }

private func threadCount() -> Int {
    guard let directory = opendir("/proc/self/task") else { return -1 }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    return count
}

/// A limit with which that many numbers are free.
private func lowestFree(after count: Int) -> Int32 {
    let free = (0..<1024).filter { fcntl($0, F_GETFD) < 0 }
    return free[count]
}

private final class Order: Sendable {
    private let values = ForkMutex<[Int]>([])
    var all: [Int] { values.withLock { $0 } }
    func add(_ value: Int) { values.withLock { $0.append(value) } }
}

private final class Canary: Sendable {
    private let tally: Tally
    init(_ tally: Tally) { self.tally = tally }
    deinit { tally.add("deinitialised") }
    func sing() { tally.add("sang") }
}

/// Two ends of a connection.
private enum Pair {
    static func make(_ inChild: ForkDescriptor.InChild = .tombstone) throws -> (ForkDescriptor, ForkDescriptor) {
        try ForkGuard.withForkPrevented {
            var numbers: [Int32] = [-1, -1]
            let kind = SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue
            guard socketpair(AF_UNIX, Int32(kind), 0, &numbers) == 0 else { throw ForkError.system(call: "socketpair", errno: errno) }
            return (
                try ForkDescriptor(adopting: numbers[0], inChild, name: "near end"),
                try ForkDescriptor(adopting: numbers[1], inChild, name: "far end")
            )
        }
    }
}

/// A socket that listens, kept in children.
private final class Listening: Sendable {
    let token: ForkDescriptor
    let parent = getpid()
    private let port: UInt16

    init() throws {
        let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
        port = try Loopback.bind(number)
        listen(number, 64)
        token = try ForkDescriptor(adopting: number, .keep, name: "listening socket")
    }

    /// Connects and waits until somebody has accepted and closed it.
    func connect() {
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard let socket = try? ForkDescriptor(name: "visitor", opening: { socket(AF_INET, kind, 0) }) else { return }
        try? socket.withNumber { number in
            var end = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
            if Loopback.connect(number, to: port) == 0 { poll(&end, 1, 1000) }
        }
        try? socket.close()
    }
}

/// An eventfd and a timerfd that have come, and a signal that its handler has written to a pipe, as tokio's does.
private final class Pending: Sendable {
    let all: [(String, ForkDescriptor)]
    private let toPipe: ForkDescriptor

    init() throws {
        let event = try ForkDescriptor(name: "eventfd") { eventfd(3, Int32(EFD_CLOEXEC | EFD_NONBLOCK)) }
        let timer = try ForkDescriptor(name: "timerfd") {
            let number = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_CLOEXEC | TFD_NONBLOCK))
            var when = itimerspec(it_interval: timespec(), it_value: timespec(tv_sec: 0, tv_nsec: 1))
            timerfd_settime(number, 0, &when, nil)
            return number
        }
        (signalPipe, all, toPipe) = try ForkGuard.withForkPrevented {
            var numbers: [Int32] = [-1, -1]
            pipe(&numbers)
            for number in numbers { _ = fcntl(number, F_SETFL, O_NONBLOCK) }
            let fromPipe = try ForkDescriptor(adopting: numbers[0], name: "pipe for signals")
            return (
                numbers[1], [("eventfd", event), ("timerfd", timer), ("signal", fromPipe)],
                try ForkDescriptor(adopting: numbers[1], name: "pipe for signals")
            )
        }
        signal(SIGUSR1) { number in
            var byte = UInt8(number)
            write(signalPipe, &byte, 1)
        }
    }

    static func raise() { Glibc.raise(SIGUSR1) }

    func close() {
        signal(SIGUSR1, SIG_DFL)
        for (_, token) in all { try? token.close() }
        try? toPipe.close()
    }
}

// What the handler knows; set before it is installed. Global, as such handlers need it.
private nonisolated(unsafe) var signalPipe: Int32 = -1
