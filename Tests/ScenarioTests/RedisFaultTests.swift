import ForkGuard
import ForkGuardTesting
import Glibc
import RedisClient
import Wire
import XCTest

/// What goes wrong between a Redis client and its server: a typed error, no hang, no leak, and nothing lost that was answered.
final class RedisFaultTests: XCTestCase {
    private var before = Belongings.now

    override func setUp() { before = .now }
    override func tearDown() { before.expectNoMore() }

    func test_theServerIsGone() throws {
        let redis = try RedisClient(try nobody())
        for _ in 0..<20 {
            XCTAssertThrowsError(try redis.send("PING")) {
                XCTAssertEqual($0 as? WireError, .system("connect", errno: ECONNREFUSED))
                XCTAssertEqual("\($0)", "connect: Connection refused")
            }
        }
        let counts = try ForkTesting.repeated(20, expecting: "connect: Connection refused", while: [{ _ = try? redis.send("PING") }]) { _ in
            do { return "\(try redis.send("PING"))" } catch { return "\(error)" }
        }
        counts.expectAll("children of a client whose server is gone")
        XCTAssertEqual(redis.counters.leased, 0)
    }

    func test_theServerIsSlow() throws {
        let redis = try RedisClient(try server(), connections: 1, timeout: .milliseconds(300))
        let began = ContinuousClock.now
        XCTAssertThrowsError(try redis.send("BLPOP", "forkguard:nothing", "0")) { XCTAssertEqual($0 as? WireError, .timedOut("receive")) }
        let took = ContinuousClock.now - began
        XCTAssert(took >= .milliseconds(300) && took < .seconds(2), "\(took)")
        // Nobody reads the late answer for that to another question.
        XCTAssertEqual(try redis.send("ECHO", "next").text, "next")
        XCTAssertEqual(redis.counters.discarded, 1)
        print("a slow server was given up after \(took)")
    }

    func test_theServerClosesAnIdleConnection() throws {
        let redis = try RedisClient(try server(), connections: 1)
        let other = try RedisClient(try server(), connections: 1)
        for _ in 0..<10 {
            guard case .integer(let id) = try redis.send("CLIENT", "ID") else { return XCTFail("no id") }
            try other.send("CLIENT", "KILL", "ID", "\(id)")
            // The news takes a moment to arrive: some round trips.
            for _ in 0..<100 { try other.send("PING") }
            XCTAssertEqual(try redis.send("ECHO", "again").text, "again")
        }
        XCTAssertEqual(redis.counters.discarded, 10)
    }

    func test_halfAReply() throws {
        for half in ["+PO", "$10\r\nhello", "$5\r\nhello", "*2\r\n+one\r\n", ":1"] {
            let closing = try ScriptedListener { peer in
                peer.receive()
                peer.send(half)
            }
            let cut = try RedisClient(try address(closing.port), timeout: .seconds(5))
            XCTAssertThrowsError(try cut.send("PING"), half) { XCTAssertEqual($0 as? WireError, .closedByPeer) }
            closing.stop()
            let silent = try ScriptedListener { peer in
                peer.receive()
                peer.send(half)
                peer.stayUntilClosed()
            }
            let waiting = try RedisClient(try address(silent.port), timeout: .milliseconds(100))
            XCTAssertThrowsError(try waiting.send("PING"), half) { XCTAssertEqual($0 as? WireError, .timedOut("receive")) }
            silent.stop()
        }
    }

    func test_whatIsNotTheProtocol() throws {
        let deep = String(repeating: "*1\r\n", count: 100)
        let noReply = ["HTTP/1.1 400 Bad Request\r\n", "\r\n", "+OK\n", ":one\r\n", "$-2\r\n", "$2\r\nabcd"]
        for answer in noReply + ["+OK\r\n+AND ANOTHER\r\n", deep] {
            let listener = try ScriptedListener { peer in
                peer.receive()
                peer.send(answer)
                peer.stayUntilClosed()
            }
            let redis = try RedisClient(try address(listener.port))
            XCTAssertThrowsError(try redis.send("PING"), answer) {
                guard case .malformed? = $0 as? WireError else { return XCTFail("\(answer): \($0)") }
            }
            XCTAssertEqual(redis.counters.discarded, 1)
            listener.stop()
        }
    }

    func test_aReplyThatIsTooLarge() throws {
        let redis = try RedisClient(try server(), connections: 1, largestReply: 65536)
        try redis.send("DEL", "forkguard:list")
        try redis.send("SETRANGE", "forkguard:large", "65535", "x")
        let push = try redis.pipeline((0..<100).map { _ in ["RPUSH", "forkguard:list", String(repeating: "x", count: 1000)] })
        XCTAssertEqual(push.last, .integer(100))
        for command in [["GET", "forkguard:large"], ["LRANGE", "forkguard:list", "0", "-1"]] {
            XCTAssertThrowsError(try redis.pipeline([["PING"], command])) { error in
                guard case RedisError.brokenOff(let answered, let cause) = error else { return XCTFail("\(error)") }
                XCTAssertEqual(answered, [.status("PONG")])
                XCTAssertEqual(cause as? WireError, .tooLarge(limit: 65536))
            }
        }
        XCTAssertEqual(try redis.send("GETRANGE", "forkguard:large", "0", "65000").text?.utf8.count, 65001)
        try redis.send("DEL", "forkguard:list", "forkguard:large")
        // A line that does not end.
        let listener = try ScriptedListener { peer in
            peer.receive()
            peer.send("+" + String(repeating: "x", count: 100_000))
            peer.stayUntilClosed()
        }
        let endless = try RedisClient(try address(listener.port), largestReply: 65536)
        XCTAssertThrowsError(try endless.send("PING")) { XCTAssertEqual($0 as? WireError, .tooLarge(limit: 65536)) }
        listener.stop()
    }

    func test_whatWasAnsweredIsNotLost() throws {
        let listener = try ScriptedListener { peer in
            peer.receive()
            peer.send("+first\r\n:2\r\n$5\r\nthi")
        }
        let redis = try RedisClient(try address(listener.port))
        XCTAssertThrowsError(try redis.pipeline([["A"], ["B"], ["C"]])) { error in
            guard case RedisError.brokenOff(let answered, let cause) = error else { return XCTFail("\(error)") }
            XCTAssertEqual(answered, [.status("first"), .integer(2)])
            XCTAssertEqual(cause as? WireError, .closedByPeer)
        }
        listener.stop()
    }

    func test_whatTheServerRefusesLeavesTheConnectionWhole() throws {
        let redis = try RedisClient(try server(), connections: 1)
        let replies = try redis.pipeline([["SET", "forkguard:word", "word"], ["INCR", "forkguard:word"], ["GET", "forkguard:word"]])
        XCTAssertEqual(replies[0], .status("OK"))
        guard case .error(let words) = replies[1] else { return XCTFail("\(replies)") }
        XCTAssertEqual(replies[2].text, "word")
        XCTAssertThrowsError(try redis.send("INCR", "forkguard:word")) { error in
            guard case RedisError.server(words) = error else { return XCTFail("\(error)") }
        }
        try redis.send("DEL", "forkguard:word")
        XCTAssertEqual(redis.counters.made, 1)
        XCTAssertEqual(redis.counters.discarded, 0)
    }

    /// No child hangs, and nobody gets another's answer.
    func test_theServerClosesWhileTheChildStarts() throws {
        let address = try server()
        let redis = try RedisClient(address, connections: 4)
        let other = try RedisClient(address, connections: 1)
        let isExpected: @Sendable (any Error) -> Bool = {
            $0 as? WireError == .closedByPeer || $0 as? WireError == .system("connect", errno: ECONNRESET)
        }
        let echo: @Sendable (String) throws -> String? = { try redis.send("ECHO", $0).text }
        let killer: @Sendable () -> Void = { _ = try? other.send("CLIENT", "KILL", "TYPE", "normal") }
        let parent = Echoes(of: "parent", expecting: isExpected, echo)
        parent.rehearse()
        let rehearsal = TestThread { while parent.counts.failed == 0 { parent.ask() } }
        while parent.counts.failed == 0 { killer() }
        rehearsal.join()
        var children = Echoes.Counts()
        for repetition in 0..<60 {
            let outcome = try ForkTesting.run(
                repetition.isMultiple(of: 2) ? .forkGuard : .rawFork, while: [killer, { parent.ask() }, { parent.ask() }]
            ) { context in
                let echoes = Echoes(of: "child\(repetition)", expecting: isExpected, echo)
                let counts = echoes.ask(20)
                context.expect(counts.failedUnexpectedly == 0, echoes.firstError ?? "")
                return counts
            }
            XCTAssert(outcome.succeeded, "\(outcome)")
            children = children + (outcome.value ?? Echoes.Counts())
        }
        print("a server that closes everything all the time; children: \(children); parent: \(parent.counts)")
        XCTAssertEqual(children.asked, 1200)
        XCTAssertEqual(children.crossed + parent.counts.crossed, 0)
        XCTAssertEqual(parent.counts.failedUnexpectedly, 0)
        XCTAssertGreaterThan(children.failed, 0, "nothing was ever closed")
        XCTAssertEqual(redis.counters.leased, 0)
        // The last news may still be on its way: each of the four connections may fail once.
        XCTAssert((0..<5).contains { _ in (try? redis.send("ECHO", "after").text) == "after" })
    }

    func test_noDescriptorIsFreeAtReconnect() throws {
        @Sendable func failsAndThenWorks(_ redis: RedisClient) throws -> Bool {
            for _ in 0..<5 {
                do {
                    try withoutFreeDescriptors { _ = try redis.send("PING") }
                    return false
                } catch WireError.system("socket", EMFILE) {}
            }
            // No place was lost.
            return try redis.send("ECHO", "later").text == "later"
        }
        XCTAssert(try failsAndThenWorks(RedisClient(server(), connections: 1)))
        let redis = try RedisClient(try server(), connections: 1)
        try redis.send("PING")
        let counts = try ForkTesting.repeated(20, expecting: true, while: [{ _ = try? redis.send("PING") }]) { _ in
            try failsAndThenWorks(redis)
        }
        counts.expectAll("children that could open no descriptor for a while")
    }

    func test_noDescriptorIsFreeInTheChildHandler() throws {
        let redis = try RedisClient(try server(), connections: 1)
        try redis.send("PING")
        let counts = try ForkTesting.repeated(20) { context in
            let id = try redis.send("CLIENT", "ID")
            // It has none to open for the tombstone.
            let child = try withoutFreeDescriptors {
                try ForkGuard.fork {
                    allowDescriptors()
                    return try redis.send("CLIENT", "ID") != id && redis.counters.made == 1 ? 0 : 1
                }
            }
            context.expect(try child.wait(timeout: .seconds(5)) == .exited(0))
            context.expect(try redis.send("CLIENT", "ID") == id, "the connection was lost")
        }
        counts.expectAll("grandchildren whose handler could open nothing")
    }

    func test_noSIGPIPE() throws {
        let listener = try ScriptedListener { $0.receive() }
        let redis = try RedisClient(try address(listener.port))
        // More than the buffers between the two take, to one who reads a little and closes.
        let command = ["SET", "key", String(repeating: "x", count: 32 << 20)]
        let outcome = try ForkTesting.run { context in
            signal(SIGPIPE, SIG_DFL)
            for _ in 0..<5 {
                do {
                    _ = try redis.pipeline([command])
                    context.fail("it was answered")
                } catch RedisError.brokenOff(let answered, let cause) {
                    context.expect(answered.isEmpty && cause as? WireError == .closedByPeer, "\(cause)")
                }
            }
        }
        XCTAssert(outcome.succeeded, "\(outcome)")
        listener.stop()
    }

    func test_aConnectThatFailsLosesNoPlace() throws {
        let nobody = try nobody()
        let redis = try RedisClient(nobody, connections: 2)
        let refused = ForkMutex(0)
        let threads = (0..<16).map { _ in
            TestThread {
                for _ in 0..<20 {
                    do { try redis.send("PING") } catch {
                        if error as? WireError == .system("connect", errno: ECONNREFUSED) { refused.withLock { $0 += 1 } }
                    }
                }
            }
        }
        threads.forEach { $0.join() }
        XCTAssertEqual(refused.withLock { $0 }, 320)
        XCTAssertEqual(redis.counters.leased, 0)
        // The server comes back.
        let listener = try ScriptedListener(port: nobody.port) { peer in while peer.receive() { peer.send("+PONG\r\n") } }
        XCTAssertEqual(try redis.send("PING"), .status("PONG"))
        redis.close()
        listener.stop()
    }

    func test_aPoolOfZero() throws {
        XCTAssertThrowsError(try RedisClient(try nobody(), connections: 0)) {
            guard case ForkError.refused(let why) = $0 else { return XCTFail("\($0)") }
            XCTAssert(why.contains("at most 0"), why)
        }
    }

    func test_allAreInUse() throws {
        let redis = try RedisClient(try server(), connections: 1, timeout: .milliseconds(300))
        let waitedForPool = ForkMutex(0)
        let others = ForkMutex<[String]>([])
        let began = ContinuousClock.now
        let threads = (0..<8).map { _ in
            TestThread {
                do { try redis.send("BLPOP", "forkguard:nothing", "0") } catch ForkError.timedOut(let what) {
                    XCTAssert(what.contains("pool 'redis 127.0.0.1:"), what)
                    waitedForPool.withLock { $0 += 1 }
                } catch {
                    // Who had the connection, or got it with no time left.
                    if error as? WireError != .timedOut("receive") { others.withLock { $0.append("\(error)") } }
                }
            }
        }
        threads.forEach { $0.join() }
        XCTAssertLessThan(ContinuousClock.now - began, .seconds(2))
        XCTAssertGreaterThan(waitedForPool.withLock { $0 }, 0)
        XCTAssertEqual(others.withLock { $0 }, [])
        redis.close()
        XCTAssertThrowsError(try redis.send("PING")) { guard case ForkError.closed? = $0 as? ForkError else { return XCTFail("\($0)") } }
    }

    // ---- help ----

    private func server() throws -> ServerAddress { try address(try Servers.redis().port) }
    private func nobody() throws -> ServerAddress { try address(try Loopback.unusedPort()) }
    private func address(_ port: UInt16) throws -> ServerAddress { try ServerAddress(host: "127.0.0.1", port: port) }
}
