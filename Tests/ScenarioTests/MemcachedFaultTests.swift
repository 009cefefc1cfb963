import ForkGuard
import ForkGuardTesting
import Glibc
import MemcachedClient
import Wire
import XCTest

/// What goes wrong between a client and memcached: each a typed error in time, nothing left behind, and the next request works. Against a
/// memcached of the test's own where it must end; against a script where the server has to say what no memcached says.
final class MemcachedFaultTests: XCTestCase {
    private static let sharings = [MemcachedClient.Sharing.pool(maximum: 1), .locked]

    // ---- the server goes away ----

    /// Also a factory that throws: with a maximum of 1, a place that was lost would be missed at the second request.
    func test_serverGone() throws {
        let server = try ServerAddress(host: "127.0.0.1", port: try Loopback.unusedPort())
        for sharing in Self.sharings {
            let client = try MemcachedClient(to: server, sharing)
            let refused = WireError.system("connect", errno: ECONNREFUSED)
            for _ in 1...20 { XCTAssertEqual(wireError { try client.get("key") }, refused) }
            let counts = try ForkTesting.repeated(20) { $0.expect(wireError { try client.get("key") } == refused) }
            counts.expectAll("server gone, \(sharing): typed error in the child")
        }
    }

    func test_serverEndsAndComesBack() throws {
        let server = try OwnMemcached()
        defer { server.end() }
        for sharing in [MemcachedClient.Sharing.pool(maximum: 2), .locked] {
            let client = try MemcachedClient(to: server.address, sharing)
            let right = Counter(), typed = Counter(), other = Counter()
            let stop = Counter()
            let threads = (1...4).map { _ in
                TestThread {
                    while stop.value == 0 {
                        do {
                            try client.set("key", to: [1])
                            right.add()
                        } catch is WireError {
                            typed.add()
                        } catch {
                            other.add()
                        }
                    }
                }
            }
            for _ in 1...5 {
                XCTAssert(right.rises())
                server.end()
                XCTAssert(typed.rises())
                try server.start()
                XCTAssert(right.rises())
            }
            stop.add()
            threads.forEach { $0.join() }
            XCTAssertEqual(other.value, 0)
            print(
                "server ended and came back 5 times, \(sharing): \(right.value) answered, \(typed.value) typed errors, \(other.value) others"
            )
        }
    }

    /// The server ends while a child starts, or while it makes its first requests: each is answered, or fails with a typed error, and the
    /// next server is found.
    func test_serverClosesWhileTheChildStarts() throws {
        let server = try OwnMemcached()
        defer { server.end() }
        for sharing in Self.sharings {
            let client = try MemcachedClient(to: server.address, sharing)
            var answered = 0
            for round in 1...10 {
                try client.set("parent", to: [1])
                let killer = TestThread {
                    if round.isMultiple(of: 2), let other = try? PlainMemcached(port: server.address.port) {
                        let deadline = Deadline(in: .seconds(5))
                        while (try? other.get("child\(round)")) == nil, !deadline.hasPassed {}
                    }
                    server.end()
                }
                let outcome = try ForkTesting.run { _ -> Int in
                    var answered = 0
                    do {
                        while true {
                            try client.set("child\(round)", to: Array("2".utf8))
                            answered += 1
                        }
                    } catch is WireError {
                        return answered
                    }
                }
                killer.join()
                answered += try outcome.get()
                XCTAssertNotNil(wireError { try client.get("parent") })
                try server.start()
                let next = try ForkTesting.run { _ in try client.set("child", to: [2]) }
                XCTAssert(next.succeeded, "\(next)")
                try client.set("parent", to: [1])
            }
            XCTAssertGreaterThan(answered, 0)
            print("server ends while a child starts, 10 times, \(sharing): \(answered) requests answered before, then a typed error")
        }
    }

    /// A connection that the server closed while nobody used it, or on which something came that nobody asked for, is replaced without an
    /// error.
    func test_notQuietWhileIdle() throws {
        try leavingNothing {
            for sharing in Self.sharings {
                for closes in [true, false] {
                    let answered = Signal()
                    let done = Signal()
                    let script = try Script { connection, peer in
                        while peer.request() != nil {
                            peer.say("END\r\n")
                            if connection > 1 { continue }
                            answered.wait(.seconds(5))
                            if closes { peer.hangUp() } else { peer.say("END\r\n") }
                            done.send()
                        }
                    }
                    let client = try MemcachedClient(to: script.address, sharing)
                    XCTAssertNil(try client.get("key"))
                    answered.send()
                    XCTAssert(done.wait(.seconds(5)))
                    for _ in 1...3 { XCTAssertNil(try client.get("key")) }
                    XCTAssertEqual(client.connectionsMade, 2)
                    client.close()
                    script.end()
                }
            }
        }
    }

    // ---- the server says too little ----

    func test_slowServer() throws {
        try leavingNothing {
            for sharing in Self.sharings {
                let script = try Script { connection, peer in
                    guard peer.request() != nil else { return }
                    if connection > 1 { peer.say("END\r\n") }
                    peer.untilItCloses()
                }
                let client = try MemcachedClient(to: script.address, sharing, timeout: .milliseconds(300))
                let begin = ContinuousClock.now
                XCTAssertEqual(wireError { try client.get("key") }, .timedOut("receive"))
                let took = ContinuousClock.now - begin
                XCTAssertGreaterThanOrEqual(took, .milliseconds(300))
                XCTAssertLessThan(took, .seconds(2))
                // The late answer would be taken for that to the next request: that connection is not used again.
                XCTAssertNil(try client.get("key"))
                XCTAssertEqual(client.connectionsMade, 2)
                print("slow server, \(sharing): error after \(took), deadline 0.3 s")
                client.close()
                script.end()
            }
        }
    }

    /// Eight threads behind a server that says nothing: who waits for the connection does so by a deadline of its own.
    func test_slowServerWithThreads() throws {
        try leavingNothing {
            for sharing in Self.sharings {
                let script = try Script { _, peer in peer.untilItCloses() }
                let client = try MemcachedClient(to: script.address, sharing, timeout: .milliseconds(300))
                let begin = ContinuousClock.now
                let failed = Counter()
                let threads = (1...8).map { _ in
                    TestThread {
                        do { _ = try client.get("key") } catch WireError.timedOut { failed.add() } catch ForkError.timedOut {
                            failed.add()
                        } catch {}
                    }
                }
                threads.forEach { $0.join() }
                let took = ContinuousClock.now - begin
                XCTAssertEqual(failed.value, 8)
                XCTAssertLessThan(took, .milliseconds(1500))
                print("slow server, 8 threads, \(sharing): the last error after \(took), deadline 0.3 s")
                client.close()
                script.end()
            }
        }
    }

    /// A fork waits for who has a ForkMutex. With a pool nobody has one while it waits for the server.
    func test_forkBesideASlowServer() throws {
        for sharing in Self.sharings {
            let asked = Signal()
            let script = try Script { connection, peer in
                guard peer.request() != nil else { return }
                if connection > 1 { peer.say("END\r\n") } else { asked.send() }
                peer.untilItCloses()
            }
            let client = try MemcachedClient(to: script.address, sharing, timeout: .seconds(1))
            let outcome = Counter()
            let thread = TestThread { if wireError({ try client.get("key") }) == .timedOut("receive") { outcome.add() } }
            XCTAssert(asked.wait(.seconds(5)))
            let begin = ContinuousClock.now
            let child = try ForkGuard.fork { try client.get("key") == nil ? 0 : 1 }
            let took = ContinuousClock.now - begin
            XCTAssertEqual(try child.wait(timeout: .seconds(5)), .exited(0))
            thread.join()
            XCTAssertEqual(outcome.value, 1)
            if case .pool = sharing { XCTAssertLessThan(took, .milliseconds(500)) } else { XCTAssertLessThan(took, .milliseconds(2500)) }
            print("a fork beside a request that waits a second for its answer, \(sharing): \(took)")
            client.close()
            script.end()
        }
    }

    func test_halfAReply() throws {
        let halves = [
            "E", "VALUE key", "VALUE key 0 10\r\n", "VALUE key 0 10\r\nabc", "VALUE key 0 3\r\nabc\r\n", "VALUE key 0 3\r\nabc\r\nEN",
        ]
        try leavingNothing {
            for sharing in Self.sharings {
                for half in halves {
                    for closes in [true, false] {
                        let script = try Script { connection, peer in
                            guard peer.request() != nil else { return }
                            peer.say(connection == 1 ? half : "VALUE key 0 1\r\nx\r\nEND\r\n")
                            if connection > 1 || !closes { peer.untilItCloses() }
                        }
                        let client = try MemcachedClient(to: script.address, sharing, timeout: closes ? .seconds(5) : .milliseconds(300))
                        XCTAssertEqual(wireError { try client.get("key") }, closes ? .closedByPeer : .timedOut("receive"), half)
                        XCTAssertEqual(try client.get("key"), Array("x".utf8))
                        XCTAssertEqual(client.connectionsMade, 2)
                        client.close()
                        script.end()
                    }
                }
            }
        }
        print("half a reply: \(halves.count) places, closed and silent, each a typed error, the next request answered on a new connection")
    }

    // ---- the server says too much ----

    func test_tooMuch() throws {
        let cases: [(String, WireError)] = [
            ("VALUE key 0 1048577\r\n", .tooLarge(limit: 1 << 20)),
            ("VALUE key 0 9223372036854775807\r\n", .tooLarge(limit: 1 << 20)),
            (String(repeating: "x", count: 100_000), .tooLarge(limit: 2048)),
            ("END\r\nEND\r\n", .malformed("5 bytes after the reply")),
            ("SERVER_ERROR busy\r\nEND\r\n", .malformed("5 bytes after the reply")),
            ("VALUE other 0 1\r\nx\r\nEND\r\n", .malformed("a value of 'other', which was not asked for")),
            ("VALUE key 0 1\r\nx\r\nVALUE key 0 1\r\nx\r\nEND\r\n", .malformed("a value of 'key', which was not asked for")),
            ("VALUE key 0 1\r\nxyz\r\nEND\r\n", .malformed("a value that is longer than announced")),
            ("VALUE key 0 -1\r\n", .malformed("VALUE key 0 -1")),
            ("VALUE key 0 99999999999999999999\r\n", .malformed("VALUE key 0 99999999999999999999")),
            ("\n", .malformed("a line without \\r\\n")),
            ("\r\n", .malformed("")),
            ("STORED\r\n", .malformed("STORED")),
        ]
        try leavingNothing {
            for sharing in Self.sharings {
                for (reply, error) in cases {
                    let script = try Script { connection, peer in
                        guard peer.request() != nil else { return }
                        peer.say(connection == 1 ? reply : "END\r\n")
                        peer.untilItCloses()
                    }
                    let client = try MemcachedClient(to: script.address, sharing, timeout: .seconds(2))
                    XCTAssertEqual(wireError { try client.get("key") }, error)
                    XCTAssertNil(try client.get("key"))
                    XCTAssertEqual(client.connectionsMade, 2)
                    client.close()
                    script.end()
                }
            }
        }
        print(
            "too much, or what is not memcached's: \(cases.count) replies, each its typed error, the next request answered on a new connection"
        )
    }

    /// A server's error is an answer: the connection goes on.
    func test_serverErrorsLeaveTheConnectionWhole() throws {
        let address = try Servers.memcached()
        let server = try ServerAddress(host: address.host, port: address.port)
        for sharing in Self.sharings {
            let client = try MemcachedClient(to: server, sharing, maximumValueSize: 8 << 20)
            try client.set("fault:text", to: Array("text".utf8))
            for _ in 1...20 {
                XCTAssertThrowsError(try client.increment("fault:text")) {
                    guard case .request? = $0 as? MemcachedError else { return XCTFail("\($0)") }
                }
                XCTAssertThrowsError(try client.set("fault:large", to: Array(repeating: 1, count: 2 << 20))) {
                    guard case .server? = $0 as? MemcachedError else { return XCTFail("\($0)") }
                }
                for key in ["", "two words", "line\r\n", "ä", String(repeating: "k", count: 251)] {
                    XCTAssertThrowsError(try client.get(key)) { XCTAssertEqual($0 as? MemcachedError, .key(key)) }
                }
                XCTAssertEqual(try client.get("fault:text"), Array("text".utf8))
            }
            XCTAssertEqual(client.connectionsMade, 1)
            print("server errors, \(sharing): 140 typed errors, \(client.connectionsMade) connection")
        }
    }

    // ---- the process has nothing left ----

    func test_noDescriptorAtReconnect() throws {
        let address = try Servers.memcached()
        let server = try ServerAddress(host: address.host, port: address.port)
        for sharing in Self.sharings {
            let client = try MemcachedClient(to: server, sharing)
            try client.set("fault:descriptors", to: [1])
            let counts = try ForkTesting.repeated(20) { context in
                let limits = Limits.withoutFreeDescriptor()
                for _ in 1...3 { context.expect(wireError { try client.get("fault:descriptors") } == .system("socket", errno: EMFILE)) }
                limits.restore()
                context.expect(try client.get("fault:descriptors") == [1])
            }
            counts.expectAll("no descriptor free at reconnect, \(sharing): typed error, then an answer")
        }
    }

    func test_noDescriptorInTheChildHandler() throws {
        let address = try Servers.memcached()
        let server = try ServerAddress(host: address.host, port: address.port)
        for sharing in Self.sharings {
            let counts = try ForkTesting.repeated(20) { context in
                let client = try MemcachedClient(to: server, sharing)
                try client.set("fault:handler", to: [1])
                let limits = Limits.withoutFreeDescriptor()
                let child = try ForkGuard.fork {
                    limits.restore()
                    return try client.get("fault:handler") == [1] && client.connectionsMade == 1 ? 0 : 1
                }
                context.expect(try child.wait(timeout: .seconds(5)) == .exited(0))
                context.expect(try client.get("fault:handler") == [1])
                context.expect(client.connectionsMade == 1)
            }
            counts.expectAll(
                "no descriptor free in the child handler, \(sharing): the child connects anew, the parent's connection answers")
        }
    }

    func test_poolOfZero() throws {
        let server = try ServerAddress(host: "127.0.0.1", port: 1)
        for maximum in [0, -1] {
            XCTAssertThrowsError(try MemcachedClient(to: server, .pool(maximum: maximum))) {
                guard case .refused? = $0 as? ForkError else { return XCTFail("\($0)") }
            }
        }
    }

    func test_closed() throws {
        let address = try Servers.memcached()
        let server = try ServerAddress(host: address.host, port: address.port)
        for sharing in Self.sharings {
            let client = try MemcachedClient(to: server, sharing)
            try client.set("fault:closed", to: [1])
            client.close()
            client.close()
            let isClosed: @Sendable () -> Bool = {
                do { _ = try client.get("fault:closed") } catch ForkError.closed { return true } catch {}
                return false
            }
            XCTAssert(isClosed())
            let outcome = try ForkTesting.run { $0.expect(isClosed()) }
            XCTAssert(outcome.succeeded, "\(outcome)")
        }
    }

    /// A peer that resets the connection in the middle of a request is an error in a process that SIGPIPE would end.
    func test_noSIGPIPE() throws {
        for sharing in Self.sharings {
            let script = try Script { connection, peer in
                // Closing with unread bytes resets.
                if peer.request() != nil, connection > 10 { peer.untilItCloses() }
            }
            let client = try MemcachedClient(to: script.address, sharing)
            let outcome = try ForkTesting.run { context in
                signal(SIGPIPE, SIG_DFL)
                for _ in 1...10 {
                    let error = wireError { try client.set("key", to: Array(repeating: 1, count: 8 << 20)) }
                    context.expect(error == .closedByPeer, "\(String(describing: error))")
                }
            }
            XCTAssert(outcome.succeeded, "\(outcome)")
            script.end()
        }
    }

    // ---- help ----

    /// Runs it, and fails the test when there are more descriptors or threads afterwards.
    private func leavingNothing(_ body: () throws -> Void) throws {
        let descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task")
        try body()
        let deadline = Deadline(in: .seconds(5))
        while entries("/proc/self/fd") > descriptors || entries("/proc/self/task") > threads, !deadline.hasPassed { sched_yield() }
        XCTAssertLessThanOrEqual(entries("/proc/self/fd"), descriptors)
        XCTAssertLessThanOrEqual(entries("/proc/self/task"), threads)
    }
}

private func wireError<Result>(_ body: () throws -> Result) -> WireError? {
    do { _ = try body() } catch { return error as? WireError }
    return nil
}

private func entries(_ directory: String) -> Int {
    guard let stream = opendir(directory) else { return -1 }
    defer { closedir(stream) }
    var count = 0
    while readdir(stream) != nil { count += 1 }
    return count
}

/// The limit on descriptors, lowered to those that are open.
private struct Limits: Sendable {
    private let before: rlimit

    static func withoutFreeDescriptor() -> Limits {
        var limits = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
        let before = limits
        let free = dup(0)
        close(free)
        limits.rlim_cur = rlim_t(free)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
        return Limits(before: before)
    }

    func restore() {
        var limits = before
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
    }
}

/// A memcached that the test ends and starts again, on one port.
private final class OwnMemcached: Sendable {
    let address: ServerAddress
    private let process = ForkMutex<pid_t>(0, name: "memcached")

    init() throws {
        // Where this is set, the program is there.
        _ = try Servers.memcached()
        address = try ServerAddress(host: "127.0.0.1", port: try Loopback.unusedPort())
        try start()
    }

    func start() throws {
        // It ends with this thread, also when the runner crashes. memcached itself would lose that when it changes its user.
        var arguments = ["setpriv", "--pdeathsig=KILL"]
        if geteuid() == 0, let nobody = getpwnam("nobody")?.pointee {
            arguments += ["--reuid=\(nobody.pw_uid)", "--regid=\(nobody.pw_gid)", "--clear-groups"]
        }
        arguments += ["memcached", "-l", "127.0.0.1", "-p", "\(address.port)", "-U", "0"]
        var strings = arguments.map { strdup($0) } + [nil]
        defer { strings.forEach { free($0) } }
        var pid = pid_t()
        XCTAssertEqual(posix_spawnp(&pid, arguments[0], nil, nil, &strings, environ), 0)
        process.withLock { $0 = pid }
        let deadline = Deadline(in: .seconds(10))
        while true {
            do { return try Connection(to: address, timeout: .seconds(1)).close() } catch { if deadline.hasPassed { throw error } }
            sched_yield()
        }
    }

    func end() {
        let pid = process.withLock { pid in
            defer { pid = 0 }
            return pid
        }
        if pid == 0 { return }
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
    }
}

/// A server that says what a test wants it to, to each connection in a thread of its own. The connection is closed when `serve` returns.
private final class Script: Sendable {
    let address: ServerAddress
    private let listener: Int32
    private let thread: TestThread

    /// `serve` gets the connection's number, from 1.
    init(_ serve: @escaping @Sendable (Int, Peer) -> Void) throws {
        let (listener, port) = try Loopback.listen()
        self.listener = listener
        address = try ServerAddress(host: "127.0.0.1", port: port)
        thread = TestThread {
            var threads: [TestThread] = []
            while case let number = accept(listener, nil, nil), number >= 0 {
                let connection = threads.count + 1
                threads.append(
                    TestThread {
                        serve(connection, Peer(number: number))
                        close(number)
                    })
            }
            threads.forEach { $0.join() }
        }
    }

    /// Its connections must be closed, by either side.
    func end() {
        shutdown(listener, Int32(SHUT_RDWR))
        thread.join()
        close(listener)
    }

    struct Peer: Sendable {
        let number: Int32

        /// What has come with the first line; `nil` when the client closed.
        func request() -> String? {
            var bytes = [UInt8](repeating: 0, count: 1024)
            let count = recv(number, &bytes, bytes.count, 0)
            return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
        }

        func say(_ text: String) {
            var text = text
            text.withUTF8 { _ = send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        }

        func hangUp() { shutdown(number, Int32(SHUT_RDWR)) }

        /// What still comes is dropped.
        func untilItCloses() { while request() != nil {} }
    }
}
