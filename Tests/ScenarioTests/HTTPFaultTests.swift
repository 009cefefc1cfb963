import ForkGuard
import ForkGuardTesting
import Glibc
import HTTPClient
import Wire
import XCTest

/// What goes wrong between an HTTP client and a server is a typed error in time, in the parent and in children, and leaves nothing behind.
final class HTTPFaultTests: HTTPTestCase {
    // ---- servers that fail ----

    func test_aServerThatIsGone() throws {
        let server = try ScriptedServer()
        defer { server.stop() }
        try expect("WireError.system", "a server that is gone") { try $0.get("/", from: server.address).text }
    }

    func test_aServerThatGoesWhileItsConnectionIsKept() throws {
        let server = try ScriptedServer { peer in while peer.request() != nil { peer.write(Self.answer("here")) } }
        let client = HTTPClient()
        XCTAssertEqual(try client.get("/", from: server.address).text, "here")
        server.stop()
        XCTAssertThrowsError(try client.get("/", from: server.address)) {
            XCTAssertEqual($0 as? WireError, .system("connect", errno: ECONNREFUSED))
        }
    }

    func test_aSlowServer() throws {
        let silent = try ScriptedServer { peer in peer.waitForEnd() }
        defer { silent.stop() }
        try expect("WireError.timedOut", "a server that does not answer", children: 2, timeout: .milliseconds(500)) {
            try $0.get("/", from: silent.address).text
        }
        let dripping = try ScriptedServer { peer in
            _ = peer.request()
            for byte in Self.answer(String(repeating: "x", count: 1000)).utf8 {
                peer.write(String(UnicodeScalar(byte)))
                usleep(10_000)
                var next: UInt8 = 0
                if recv(peer.number, &next, 1, Int32(MSG_DONTWAIT)) == 0 { return }
            }
        }
        defer { dripping.stop() }
        try expect("WireError.timedOut", "a server that answers too slowly", children: 2, timeout: .milliseconds(500)) {
            try $0.get("/", from: dripping.address).text
        }
    }

    func test_halfAReply() throws {
        let halves = [
            "", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n12345",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        ]
        for half in halves { try expect("WireError.closedByPeer", answering: half) }
    }

    func test_aReplyThatIsTooLarge() throws {
        let head = "HTTP/1.1 200 OK\r\n"
        let header = "X: \(String(repeating: "x", count: 500))\r\n"
        for large in [
            "HTTP/1.1 200 \(String(repeating: "x", count: 2000))", head + String(repeating: header, count: 3),
            String(repeating: "HTTP/1.1 100 Continue\r\n\r\n", count: 100),
            head + "Transfer-Encoding: chunked\r\n\r\n" + String(repeating: "1;\(String(repeating: "x", count: 500))\r\nx\r\n", count: 3),
            head + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + String(repeating: header, count: 3),
        ] { try expect("HTTPError.headTooLarge", answering: large) }
        for large in [
            head + "Content-Length: 2001\r\n\r\n", head + "Content-Length: 9223372036854775807\r\n\r\n",
            head + "Transfer-Encoding: chunked\r\n\r\n" + String(repeating: "64\r\n\(String(repeating: "x", count: 100))\r\n", count: 21),
            head + "Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n",
        ] { try expect("HTTPError.bodyTooLarge", answering: large) }
    }

    func test_whatIsNotHTTP() throws {
        let head = "HTTP/1.1 200 OK\r\n"
        for wrong in [
            "\r\n", "+PONG\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 -20 OK\r\n\r\n",
            "HTTP/1.1 101 Switching\r\n\r\n",
            head + "no colon\r\n\r\n", head + ": no name\r\n\r\n", head + "A B: c\r\n\r\n", head + "A: b\r\n folded\r\n\r\n",
            head + "\r\nno length", head + "Content-Length: -1\r\n\r\n", head + "Content-Length: +1\r\n\r\n1",
            head + "Content-Length: x\r\n\r\n",
            head + "Content-Length: 99999999999999999999\r\n\r\n", head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n1",
            head + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n",
            head + "Transfer-Encoding: gzip\r\n\r\n",
            head + "Transfer-Encoding: chunked\r\n\r\nx\r\n", head + "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
            head + "Transfer-Encoding: chunked\r\n\r\n2\r\n123\r\n", head + "Transfer-Encoding: chunked\r\n\r\n\r\n",
        ] { try expect("WireError.malformed", answering: wrong, children: 2) }
    }

    func test_whatIsHTTP() throws {
        for (answer, body) in [
            (Self.answer("text"), "text"), (Self.answer(""), ""), ("HTTP/1.1 204 No Content\r\n\r\n", ""), ("HTTP/1.1 304 \r\n\r\n", ""),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + Self.answer("at last"), "at last"),
            ("HTTP/1.1 200\r\ncontent-length:4\r\n\r\ntext", "text"), ("HTTP/1.0 200 OK\r\nContent-Length: \t4 \t\r\n\r\ntext", "text"),
            ("HTTP/1.1 200 OK\nContent-Length: 4\n\ntext", "text"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n4\r\ntext\r\n00b ;c=d\r\n and more  \r\n0\r\nX: y\r\n\r\n",
                "text and more  "
            ),
        ] {
            try expect(body, answering: answer)
            // Byte by byte.
            let server = try ScriptedServer { peer in
                while peer.request() != nil { for byte in answer.utf8 { peer.write(String(UnicodeScalar(byte))) } }
            }
            defer { server.stop() }
            for _ in 0..<3 { XCTAssertEqual(try HTTPClient().get("/", from: server.address).text, body) }
        }
    }

    func test_moreThanWasAskedFor() throws {
        let server = try ScriptedServer { peer in
            while peer.request() != nil { peer.write(Self.answer("one") + (peer.turn == 0 ? Self.answer("two") : "")) }
        }
        defer { server.stop() }
        try expect("one one one", "an answer that nobody asked for") { client in
            try (0..<3).map { _ in try client.get("/", from: server.address).text }.joined(separator: " ")
        }
    }

    // ---- what is sent again ----

    func test_aKeptConnectionThatTheServerHasClosed() throws {
        let bodies = ForkMutex<[String]>([])
        // Answers once on each connection. The next request there is read, and the connection closed.
        let server = try ScriptedServer { peer in
            if let first = peer.request() {
                bodies.withLock { $0.append("\(peer.turn) \(first.prefix { $0 != " " })") }
                peer.write(Self.answer("\(peer.turn)"))
            }
            if let second = peer.request() { bodies.withLock { $0.append("\(peer.turn) \(second.prefix { $0 != " " }) closed") } }
        }
        defer { server.stop() }
        let client = HTTPClient()
        XCTAssertEqual(try client.get("/", from: server.address).text, "0")
        // Read by the server on the kept one, and once more on a new one.
        XCTAssertEqual(try client.get("/", from: server.address).text, "1")
        XCTAssertEqual(try client.get("/", from: server.address).text, "2")
        XCTAssertThrowsError(try client.send(HTTPRequest("POST", "/", body: [1]), to: server.address)) {
            XCTAssertEqual($0 as? WireError, .closedByPeer)
        }
        XCTAssertEqual(bodies.withLock { $0 }, ["0 GET", "0 GET closed", "1 GET", "2 GET", "2 POST closed"])
        try expect("1 answer", "a kept connection that the server closes, in children") { client in
            let first = try client.get("/", from: server.address).text
            let second = try client.get("/", from: server.address).text
            return Int(first)! + 1 <= Int(second)! ? "1 answer" : "\(first), then \(second)"
        }
    }

    func test_aRequestIsSentAgainOnceAndNotFromANewConnection() throws {
        let requests = ForkMutex(0)
        let server = try ScriptedServer { peer in
            while peer.request() != nil {
                requests.withLock { $0 += 1 }
                guard peer.turn == 0, requests.withLock({ $0 }) == 1 else { return }
                peer.write(Self.answer("once"))
            }
        }
        defer { server.stop() }
        let client = HTTPClient()
        XCTAssertEqual(try client.get("/", from: server.address).text, "once")
        XCTAssertThrowsError(try client.get("/", from: server.address)) { XCTAssertEqual($0 as? WireError, .closedByPeer) }
        XCTAssertEqual(requests.withLock { $0 }, 3, "the kept connection, then one new one")
        XCTAssertThrowsError(try client.get("/", from: server.address)) { XCTAssertEqual($0 as? WireError, .closedByPeer) }
        XCTAssertEqual(requests.withLock { $0 }, 4, "a new connection")
        XCTAssertEqual(server.accepted, 3)
    }

    func test_anAnswerThatHasBegunIsNotAskedForAgain() throws {
        let requests = ForkMutex(0)
        let server = try ScriptedServer { peer in
            _ = peer.request()
            peer.write(Self.answer("whole"))
            if peer.request() != nil { requests.withLock { $0 += 1 } }
            peer.write("HTTP/1.1 200 OK\r\n")
        }
        defer { server.stop() }
        let client = HTTPClient()
        XCTAssertEqual(try client.get("/", from: server.address).text, "whole")
        XCTAssertThrowsError(try client.get("/", from: server.address)) { XCTAssertEqual($0 as? WireError, .closedByPeer) }
        XCTAssertEqual(requests.withLock { $0 }, 1)
        XCTAssertEqual(server.accepted, 1)
    }

    func test_theServerClosesWhileTheChildStarts() throws {
        let server = try ScriptedServer { peer in while peer.request() != nil { peer.write(Self.answer("\(peer.turn)")) } }
        defer { server.stop() }
        let client = HTTPClient()
        let kept = ForkMutex<PersistentConnection?>(nil)
        let hook = ForkGuard.onFork(name: "the server closes", prepare: { server.closeAll() })
        defer { hook.cancel() }
        @Sendable func use() throws -> String {
            let connection = kept.withLock { $0 }
            do {
                _ = try connection?.send(HTTPRequest("GET", "/"), timeout: .seconds(1))
            } catch ForkError.staleGeneration {
            }
            return Int(try client.get("/", from: server.address).text) == nil ? "nonsense" : "answered"
        }
        XCTAssertEqual(try use(), "answered")
        let failed = ForkMutex<[String]>([])
        for method in [ForkMethod.forkGuard, .rawFork] {
            let counts = try ForkTesting.repeated(
                50, expecting: "answered", method,
                while: [
                    {
                        do { _ = try client.get("/", from: server.address) } catch { failed.withLock { $0.append("\(error)") } }
                    },
                    {
                        if kept.withLock({ $0 })?.isIdle == true { return }
                        let connection = try? PersistentConnection(to: server.address, timeout: .seconds(1))
                        let old = kept.withLock { kept in
                            defer { kept = connection }
                            return kept
                        }
                        old?.close()
                    },
                ]
            ) { _ in try use() }
            counts.expectAll("\(method): the server closes while the child starts")
        }
        kept.withLock { $0?.close() }
        // One that was new, and had not answered yet, is not tried again.
        XCTAssertEqual(failed.withLock { Set($0) }.subtracting([WireError.closedByPeer.description]), [])
    }

    // ---- what the process lacks ----

    func test_noDescriptorIsFree() throws {
        let nginx = try HTTPSupport.nginx()
        let client = HTTPClient()
        XCTAssertEqual(try client.get("/echo?id=1", from: nginx).text, "1")
        let exhaust: @Sendable () -> rlimit = {
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            while case let number = dup(STDIN_FILENO), number >= 0 {
                // The lowest free one: the limit need not be reached for it.
                var lower = limit
                lower.rlim_cur = rlim_t(number) + 1
                setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &lower)
            }
            return limit
        }
        for method in [ForkMethod.forkGuard, .rawFork] {
            let counts = try ForkTesting.repeated(20, method, while: [{ _ = try? client.get("/", from: nginx) }]) { context in
                // In a child at its first use.
                var limit = exhaust()
                do {
                    context.fail("no descriptor was free: \(try client.get("/echo?id=2", from: nginx).text)")
                } catch WireError.system("socket", errno: EMFILE) {
                }
                setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
                for id in 2..<10 { context.expect(try client.get("/echo?id=\(id)", from: nginx).text == "\(id)") }

                // At the fork itself: the grandchild's handler has no number for its tombstone.
                let kept = try PersistentConnection(to: nginx, timeout: .seconds(5))
                let number = try HTTPSupport.connectionNumber(kept.send(HTTPRequest("GET", "/connection"), timeout: .seconds(5)))
                _ = exhaust()
                let grandchild = try ForkGuard.fork {
                    do {
                        _ = try kept.send(HTTPRequest("GET", "/"), timeout: .seconds(5))
                        return 1
                    } catch ForkError.staleGeneration {
                    }
                    kept.close()
                    // The numbers of the connections that it inherited are its own now.
                    return try client.get("/echo?id=3", from: nginx).text == "3" ? 0 : 2
                }
                context.expect(try grandchild.wait(timeout: .seconds(5)) == .exited(0))
                context.expect(try client.get("/echo?id=4", from: nginx).text == "4")
                context.expect(
                    try HTTPSupport.connectionNumber(kept.send(HTTPRequest("GET", "/connection"), timeout: .seconds(5))) == number)
                kept.close()
            }
            counts.expectAll("\(method): no descriptor is free")
        }
    }

    func test_SIGPIPE() throws {
        let server = try ScriptedServer { peer in
            var byte: UInt8 = 0
            recv(peer.number, &byte, 1, 0)
            peer.reset()
        }
        defer { server.stop() }
        let request = try HTTPRequest("POST", "/", body: [UInt8](repeating: 0x78, count: 8 << 20))
        try expect("WireError.closedByPeer", "a peer that resets while it is sent to") { client in
            signal(SIGPIPE, SIG_DFL)
            for _ in 0..<3 { _ = try? client.send(request, to: server.address) }
            return try client.send(request, to: server.address).text
        }
    }

    func test_aFactoryThatThrows() throws {
        let server = try ScriptedServer()
        defer { server.stop() }
        let client = HTTPClient(connectionsPerServer: 2, timeout: .seconds(2))
        let errors = ForkMutex<[String: Int]>([:])
        let threads = (0..<8).map { _ in
            TestThread {
                for _ in 0..<50 {
                    do { _ = try client.get("/", from: server.address) } catch { errors.withLock { $0[Self.kind(error), default: 0] += 1 } }
                }
            }
        }
        threads.forEach { $0.join() }
        XCTAssertEqual(errors.withLock { $0 }, ["WireError.system": 400])
        // No place was lost.
        server.start { peer in while peer.request() != nil { peer.write(Self.answer("here")) } }
        for _ in 0..<4 { XCTAssertEqual(try client.get("/", from: server.address).text, "here") }
        try expect("here", "after a factory that threw") { try $0.get("/", from: server.address).text }
    }

    func test_aPoolOfZero() throws {
        let nginx = try HTTPSupport.nginx()
        try expect("ForkError.refused", "a pool of zero") { _ in try HTTPClient(connectionsPerServer: 0).get("/", from: nginx).text }
    }

    func test_onePlaceForManyThreads() throws {
        let nginx = try HTTPSupport.nginx()
        let client = HTTPClient(connectionsPerServer: 1)
        try expect("1 connection", "eight threads, one connection") { _ in
            let numbers = ForkMutex<Set<Int?>>([])
            let threads = (0..<8).map { _ in
                TestThread {
                    for _ in 0..<10 {
                        let number = (try? client.get("/connection", from: nginx)).flatMap(HTTPSupport.connectionNumber)
                        numbers.withLock { _ = $0.insert(number) }
                    }
                }
            }
            threads.forEach { $0.join() }
            let count = numbers.withLock { $0.contains(nil) ? -1 : $0.count }
            return "\(count) connection"
        }
    }

    func test_aPoolThatIsExhausted() throws {
        let silent = try ScriptedServer { peer in peer.waitForEnd() }
        defer { silent.stop() }
        let client = HTTPClient(connectionsPerServer: 1, timeout: .milliseconds(300))
        let errors = ForkMutex<[String: Int]>([:])
        let threads = (0..<3).map { _ in
            TestThread {
                do { _ = try client.get("/", from: silent.address) } catch { errors.withLock { $0[Self.kind(error), default: 0] += 1 } }
            }
        }
        threads.forEach { $0.join() }
        let seen = errors.withLock { $0 }
        XCTAssertEqual(seen.values.reduce(0, +), 3)
        XCTAssertEqual(Set(seen.keys).subtracting(["WireError.timedOut", "ForkError.timedOut"]), [])
    }

    func test_requestsThatCannotBeSent() {
        for (method, path, headers) in [
            ("", "/", [:]), ("GET /", "/", [:]), ("GET\r\n", "/", [:]), ("GET", "", [:]), ("GET", "x", [:]),
            ("GET", "/ HTTP/1.1\r\nX: y", [:]), ("GET", "/ü", [:]), ("GET", "/", ["X": "y\r\nZ: a"]), ("GET", "/", ["X\r\nZ": "y"]),
            ("GET", "/", ["X:": "y"]), ("GET", "/", ["": ""]), ("GET", "/", ["X": "\0"]),
            ("POST", "/", ["content-length": "1"]), ("GET", "/", ["Transfer-Encoding": "chunked"]),
            ("GET", "/", ["Host": "elsewhere"]), ("GET", "/", ["Connection": "close"]),
        ] as [(String, String, [String: String])] {
            XCTAssertThrowsError(try HTTPRequest(method, path, headers: headers), "\(method) \(path) \(headers)") {
                XCTAssertEqual(Self.kind($0), "HTTPError.invalidRequest")
            }
        }
    }

    // ---- a real server ----

    func test_aRealServer() throws {
        let nginx = try HTTPSupport.nginx()
        try expect("1048576 200", "a large body") { client in
            let response = try client.get("/large", from: nginx)
            return "\(response.body.count) \(response.status)"
        }
        try expect("closed 1 closed 2", "a server that says that it closes") { client in
            let one = try client.get("/close", from: nginx).text.split(separator: "\n")[0]
            return "\(one) 1 \(try client.get("/close", from: nginx).text.split(separator: "\n")[0]) 2"
        }
        try expect("20 requests on one connection", "keep-alive") { client in
            let first = try client.get("/connection", from: nginx)
            let last = try (0..<19).map { _ in try client.get("/connection", from: nginx) }.last
            let number = HTTPSupport.connectionNumber(first)!
            return last?.text == "\(number) 20" && first.text == "\(number) 1"
                ? "20 requests on one connection" : "\(first.text), then \(last?.text ?? "")"
        }
        try expect("200 1048576 0 nothing", "HEAD") { client in
            let response = try client.send(HTTPRequest("HEAD", "/large", headers: ["X-Header": "x"]), to: nginx)
            return "\(response.status) \(response["content-length"] ?? "") \(response.body.count) nothing"
        }
        try expect("404 413 hello", "refused, and refused before all is sent") { client in
            let missing = try client.get("/missing", from: nginx)
            let large = try HTTPRequest("POST", "/echo?id=1", body: [UInt8](repeating: 0x78, count: 8 << 20))
            let refused = try client.send(large, to: nginx)
            let small = try client.send(HTTPRequest("POST", "/echo?id=hello", body: Array("body".utf8)), to: nginx)
            return "\(missing.status) \(refused.status) \(small.text)"
        }
    }

    func test_childrenThatRanNoHandlers() throws {
        let nginx = try HTTPSupport.nginx()
        let client = HTTPClient()
        let kept = try PersistentConnection(to: nginx, timeout: .seconds(5))
        defer { kept.close() }
        let request = try HTTPRequest("GET", "/connection")
        let number = try HTTPSupport.connectionNumber(kept.send(request, timeout: .seconds(5)))
        XCTAssertNotNil(HTTPSupport.connectionNumber(try client.get("/connection", from: nginx)))
        for method in ForkMethod.available where !method.runsForkHandlers {
            // Nobody allocates meanwhile: such a child finds malloc as it was.
            let counts = try ForkTesting.repeated(20, method) { context in
                do {
                    _ = try kept.send(request, timeout: .seconds(5))
                    context.fail("an inherited connection answered")
                } catch ForkError.staleGeneration {
                }
                kept.close()
                context.expect(try HTTPSupport.connectionNumber(client.get("/connection", from: nginx)) != number)
                // One method shares the table of descriptors with the parent: nothing may be left in it.
                client.closeIdle()
                context.expect(HTTPSupport.wait(.seconds(5)) { HTTPSupport.threads() == 1 })
            }
            counts.expectAll("\(method): an inherited connection and a new one")
            XCTAssertEqual(try HTTPSupport.connectionNumber(kept.send(request, timeout: .seconds(5))), number)
        }
    }

    // ---- how ----

    private static func answer(_ body: String) -> String { "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)" }

    /// The type and the case.
    private static func kind(_ error: any Error) -> String {
        "\(type(of: error)).\(Mirror(reflecting: error).children.first?.label ?? "closedByPeer")"
    }

    /// A server that answers each connection so, and ends it.
    private func expect(_ expected: String, answering answer: String, children: Int = 3) throws {
        let server = try ScriptedServer { peer in
            guard peer.request() != nil else { return }
            peer.write(answer)
            // Until all has been read, or the client has had enough: a reset would take the answer with it.
            shutdown(peer.number, Int32(SHUT_WR))
            peer.waitForEnd()
        }
        defer { server.stop() }
        try expect(expected, "answered with '\(answer.prefix(60))'".replacing("\r\n", with: "|"), children: children) { client in
            try client.get("/", from: server.address).text
        }
    }

    /// The error or the answer, here and in children, while others use the client: within three seconds.
    private func expect(
        _ expected: String, _ what: String, children: Int = 5, timeout: Duration = .milliseconds(1500),
        _ body: @escaping @Sendable (HTTPClient) throws -> String
    ) throws {
        var limits = HTTPLimits()
        limits.head = 1200
        limits.body = what == "a large body" ? 2 << 20 : 2000
        let client = HTTPClient(connectionsPerServer: 2, timeout: timeout, limits: limits)
        let nginx = try? HTTPSupport.nginx()
        @Sendable func outcome() -> String {
            do { return try body(client) } catch { return Self.kind(error) }
        }
        let start = ContinuousClock.now
        XCTAssertEqual(outcome(), expected, what)
        XCTAssertLessThan(ContinuousClock.now - start, .seconds(3), what)
        for method in [ForkMethod.forkGuard, .rawFork] {
            let hammer: @Sendable () -> Void = { if let nginx { _ = try? client.get("/", from: nginx) } else { usleep(1000) } }
            let counts = try ForkTesting.repeated(children, expecting: expected, method, deadline: .seconds(5), while: [hammer]) { _ in
                outcome()
            }
            counts.expectAll("\(method): \(what)")
        }
    }
}
