#if LIBPQ
    import ForkGuard
    import ForkGuardTesting
    import Glibc
    import PostgresClient
    import Wire
    import XCTest

    /// PostgreSQL through libpq, which knows nothing of forks: one connection and two processes, and what goes wrong between a client and its server.
    final class PostgresTests: XCTestCase {
        private var before = Belongings.now

        override func setUp() { before = .now }
        override func tearDown() { before.expectNoMore() }

        // ---- one connection, two processes ----

        func test_behaviour31_control_answersCross() throws {
            var inChildren = Echoes.Counts()
            var inParent = Echoes.Counts()
            var errors: [String] = []
            for repetition in 0..<5 {
                let shared = try PlainPostgres(port: try Servers.postgres().port)
                let parent = Echoes(of: "parent\(repetition)", expecting: { _ in true }) { try shared.echo($0) }
                // The fork comes between two requests: libpq refuses a second one in the middle of the first.
                let asking = ForkMutex(0)
                let outcome = try ForkTesting.run(
                    .rawFork, while: [{ asking.withLock { _ in if parent.counts.failed == 0 { parent.ask() } } }]
                ) { _ in
                    let child = Echoes(of: "child\(repetition)", expecting: { _ in true }) { try shared.echo($0) }
                    while child.counts.asked < 100, child.counts.failed == 0 { child.ask() }
                    return child.counts
                }
                inChildren = inChildren + (try outcome.get())
                inParent = inParent + parent.counts
                if let error = parent.firstError { errors.append(error) }
            }
            print("control: on one connection, children: \(inChildren); parent: \(inParent); \(errors.first ?? "")")
            XCTAssertGreaterThan(inChildren.crossed + inParent.crossed, 0, "the control did not fail")
        }

        func test_behaviour31_noAnswerReachesTheWrongProcess() throws {
            let postgres = try client(connections: 4)
            let parent = Echoes(of: "parent") { try postgres.query("SELECT $1::text", [$0]).value }
            parent.rehearse()
            for method in [ForkMethod.forkGuard, .rawFork] {
                let counts = try ForkTesting.repeated(
                    25, expecting: .allRight(40), method, while: Array(repeating: { parent.ask() }, count: 4)
                ) { context in
                    Echoes(of: "child\(context.repetition)") { try postgres.query("SELECT $1::text", [$0]).value }.ask(40)
                }
                counts.expectAll("children with 40 right answers of 40, \(method)")
            }
            print("1,000 requests of children each way, and the parent's meanwhile: \(parent.counts)")
            XCTAssertGreaterThan(parent.counts.asked, 1000)
            XCTAssertEqual(parent.counts, .allRight(parent.counts.asked), parent.firstError ?? "")
            // The children have cost the parent no connection.
            XCTAssertLessThanOrEqual(postgres.counters.made, 4)
        }

        func test_behaviour30_control_PQfinishEndsTheParentsConnection() throws {
            for way in LettingGo.allCases {
                let owned = Owned(try PlainPostgres(port: try Servers.postgres().port))
                XCTAssertEqual(try owned.get().echo("before"), "before")
                try way.inChildren(1, .rawFork, owned) { $0.finish() }
                XCTAssertThrowsError(try owned.get().echo("after"), "the control did not fail") {
                    print("control: a child let go of the connection by \(way.rawValue), and the parent finds: \($0)")
                }
            }
        }

        func test_behaviour30_theChildDropsAnInheritedConnection() throws {
            let owned = Owned(try client(connections: 1))
            let process = try backend(of: try owned.get())
            for way in LettingGo.allCases {
                for method in ForkMethod.available where method != .rawCloneSharingFiles {
                    try way.inChildren(3, method, owned) { $0.close() }
                }
                let requests = Echoes(of: "parent") { try owned.get().query("SELECT $1::text", [$0]).value }.ask(1000)
                XCTAssertEqual(requests, .allRight(1000))
                XCTAssertEqual(try backend(of: try owned.get()), process)
                print("children let go by \(way.rawValue); then the parent's on the same connection: \(requests)")
            }
            XCTAssertEqual(try owned.get().counters.made, 1)
        }

        func test_behaviour36_aNewClientInTheChildWorksToo() throws {
            let inherited = try client(connections: 2)
            let port = try Servers.postgres().port
            @Sendable func areBothRight() throws -> Bool {
                let new = try makeClient(port, connections: 2)
                let processes = try [new, inherited].map { try backend(of: $0) }
                let words = try [new, inherited].map { try $0.query("SELECT $1::text", ["word"]).value }
                new.close()
                return words == ["word", "word"] && processes[0] != processes[1]
            }
            XCTAssert(try areBothRight() && areBothRight())
            for method in ForkMethod.available where method.runsForkHandlers {
                let counts = try ForkTesting.repeated(
                    20, expecting: true, method, while: [{ _ = try? inherited.query("SELECT 1") }]
                ) { _ in try areBothRight() }
                counts.expectAll("children with a new client and the old one, \(method)")
            }
        }

        /// The child has no part in it, and says nothing: the parent's COMMIT counts.
        func test_aForkInsideATransaction() throws {
            let postgres = try client(connections: 1)
            try postgres.query("DROP TABLE IF EXISTS forked")
            try postgres.query("CREATE TABLE forked (number int)")
            for method in ForkMethod.available where method != .rawCloneSharingFiles {
                try postgres.transaction { connection in
                    try connection.query("INSERT INTO forked VALUES (1)")
                    let outcome = try ForkTesting.run(method, from: .calling) { context in
                        do {
                            try connection.query("ROLLBACK")
                            context.fail("the child rolled back")
                        } catch ForkError.staleGeneration {}
                        context.expect(try postgres.query("SELECT count(*) FROM forked WHERE number = 2").value == "0")
                    }
                    XCTAssert(outcome.succeeded, "\(method): \(outcome)")
                    try connection.query("INSERT INTO forked VALUES ($1)", ["3"])
                }
            }
            let methods = ForkMethod.available.filter { $0 != .rawCloneSharingFiles }.count
            XCTAssertEqual(try postgres.query("SELECT count(*) FROM forked").value, "\(2 * methods)")
            XCTAssertEqual(postgres.counters.made, 1)
            try postgres.query("DROP TABLE forked")
        }

        // ---- the client ----

        func test_statementsAndTransactions() throws {
            let postgres = try client(connections: 1)
            try postgres.query("CREATE TEMPORARY TABLE people (id int PRIMARY KEY, name text)")
            XCTAssertEqual(try postgres.query("INSERT INTO people VALUES ($1, $2), ($3, $4)", ["1", "Ada", "2", nil]).tag, "INSERT 0 2")
            XCTAssertEqual(try postgres.query("SELECT id, name FROM people ORDER BY id").rows, [["1", "Ada"], ["2", nil]])
            XCTAssertEqual(try postgres.query("").rows, [])
            // What the server refuses leaves the connection, and with it the temporary table, whole.
            XCTAssertThrowsError(try postgres.query("SELEC")) { self.expectState("42601", $0) }
            XCTAssertThrowsError(try postgres.query("INSERT INTO people VALUES (1, 'Eve')")) { self.expectState("23505", $0) }
            XCTAssertThrowsError(
                try postgres.transaction { connection in
                    try connection.query("DELETE FROM people")
                    try connection.query("INSERT INTO people VALUES ('x', 'y')")
                }
            ) { self.expectState("22P02", $0) }
            XCTAssertEqual(try postgres.query("SELECT count(*) FROM people").value, "2")
            _ = try postgres.transaction { try $0.query("DELETE FROM people WHERE id = 2") }
            XCTAssertEqual(try postgres.query("SELECT count(*) FROM people").value, "1")
            XCTAssertThrowsError(try postgres.query("COPY people TO STDOUT")) {
                guard case PostgresError.unsupported? = $0 as? PostgresError else { return XCTFail("\($0)") }
            }
            // A transaction that was left open is nobody else's.
            try postgres.query("BEGIN")
            XCTAssertThrowsError(try postgres.query("SAVEPOINT here")) { self.expectState("25P01", $0) }
        }

        func test_largeParameters() throws {
            let large = String(repeating: "x", count: 4 << 20)
            XCTAssertEqual(try client().query("SELECT length($1::text)", [large]).value, "\(large.count)")
            XCTAssertEqual(try client().query("SELECT $1::text", [large]).value, large)
        }

        // ---- faults ----

        func test_theServerIsGone() throws {
            let postgres = try makeClient(try Loopback.unusedPort())
            for _ in 0..<20 {
                XCTAssertThrowsError(try postgres.query("SELECT 1")) { self.expectConnection("Connection refused", $0) }
            }
            let counts = try ForkTesting.repeated(20, expecting: true, while: [{ _ = try? postgres.query("SELECT 1") }]) { _ in
                do { return try postgres.query("SELECT 1").value == "never" } catch PostgresError.connection { return true }
            }
            counts.expectAll("children of a client whose server is gone")
            XCTAssertEqual(postgres.counters.leased, 0)
        }

        func test_theServerIsSlow() throws {
            let postgres = try client(connections: 1, timeout: .seconds(1))
            _ = try backend(of: postgres)
            let began = ContinuousClock.now
            XCTAssertThrowsError(try postgres.query("SELECT pg_sleep(3)")) { XCTAssertEqual($0 as? WireError, .timedOut("a result")) }
            let took = ContinuousClock.now - began
            XCTAssert(took >= .seconds(1) && took < .milliseconds(2500), "\(took)")
            XCTAssertEqual(try postgres.query("SELECT 'next'").value, "next")
            XCTAssertEqual(postgres.counters.discarded, 1)
            // One that takes the connection and says nothing.
            let silent = try ScriptedListener { $0.stayUntilClosed() }
            let waiting = try makeClient(silent.port, timeout: .milliseconds(100))
            XCTAssertThrowsError(try waiting.query("SELECT 1")) {
                XCTAssertEqual($0 as? WireError, .timedOut("connecting to PostgreSQL at 127.0.0.1:\(silent.port)"))
            }
            silent.stop()
        }

        func test_halfAReply() throws {
            // A length of 100, and four bytes; a row that is described and does not come; half a header.
            for half in [[0x54, 0, 0, 0, 100, 0, 1, 0x61, 0], [0x31, 0, 0, 0, 4, 0x32, 0, 0, 0, 4], [0x31, 0, 0]] as [[UInt8]] {
                let closing = try ScriptedListener { peer in
                    peer.welcome()
                    peer.receive()
                    peer.send(half)
                }
                XCTAssertThrowsError(try makeClient(closing.port).query("SELECT 1")) {
                    self.expectConnection("server closed the connection unexpectedly", $0)
                }
                closing.stop()
                let silent = try ScriptedListener { peer in
                    peer.welcome()
                    peer.receive()
                    peer.send(half)
                    peer.stayUntilClosed()
                }
                XCTAssertThrowsError(try makeClient(silent.port, timeout: .milliseconds(500)).query("SELECT 1")) {
                    XCTAssertEqual($0 as? WireError, .timedOut("a result"))
                }
                silent.stop()
            }
        }

        func test_whatIsNotTheProtocol() throws {
            let listener = try ScriptedListener { peer in
                peer.welcome()
                peer.receive()
                peer.send("HTTP/1.1 400 Bad Request\r\n\r\n")
                peer.stayUntilClosed()
            }
            XCTAssertThrowsError(try makeClient(listener.port).query("SELECT 1")) { self.expectConnection("lost synchronization", $0) }
            listener.stop()
        }

        func test_aResultThatIsTooLarge() throws {
            let (_, port) = try Servers.postgres()
            let postgres = try makeClient(port, connections: 1, largestResult: 1 << 20)
            XCTAssertThrowsError(try postgres.query("SELECT repeat('x', 100000) FROM generate_series(1, 1000000)")) {
                XCTAssertEqual($0 as? WireError, .tooLarge(limit: 1 << 20))
            }
            XCTAssertEqual(try postgres.query("SELECT length(repeat('x', 100000))").value, "100000")
            XCTAssertEqual(postgres.counters.discarded, 1)
        }

        func test_theServerClosesAnIdleConnection() throws {
            let postgres = try client(connections: 1)
            let other = try client(connections: 1)
            for _ in 0..<5 {
                let process = try backend(of: postgres)
                try other.query("SELECT pg_terminate_backend($1::int)", [process])
                while try other.query("SELECT 1 FROM pg_stat_activity WHERE pid = $1::int", [process]).value != nil {}
                // The news takes a moment to arrive: some round trips.
                for _ in 0..<50 { try other.query("SELECT 1") }
                XCTAssertEqual(try postgres.query("SELECT 'again'").value, "again")
            }
            XCTAssertEqual(postgres.counters.discarded, 5)
        }

        /// libpq closes its socket when the connection is lost. What gets the number next is not taken for the connection: a child finds it, not a tombstone.
        func test_theNumberOfALostConnectionIsSomebodyElses() throws {
            let postgres = try client(connections: 1)
            let other = try client(connections: 1)
            XCTAssertThrowsError(
                try postgres.transaction { connection in
                    let process = try connection.query("SELECT pg_backend_pid()").value
                    try other.query("SELECT pg_terminate_backend($1::int)", [process])
                    XCTAssertThrowsError(try connection.query("SELECT pg_sleep(1)")) { self.expectConnection("terminating", $0) }
                    let numbers = (0..<4).map { _ in open("/dev/zero", O_RDONLY | O_CLOEXEC) }
                    defer { numbers.forEach { close($0) } }
                    for method in [ForkMethod.forkGuard, .rawFork] {
                        let outcome = try ForkTesting.run(method, from: .calling) { _ in
                            var byte: UInt8 = 0
                            return numbers.map { read($0, &byte, 1) }
                        }
                        XCTAssertEqual(try outcome.get(), [1, 1, 1, 1])
                    }
                    try connection.query("SELECT 1")
                }
            ) { guard case ForkError.closed? = $0 as? ForkError else { return XCTFail("\($0)") } }
            XCTAssertEqual(try postgres.query("SELECT 'again'").value, "again")
        }

        func test_theServerClosesWhileTheChildStarts() throws {
            let postgres = try client(connections: 4)
            let other = try client(connections: 1)
            let isExpected: @Sendable (any Error) -> Bool = {
                switch $0 as? PostgresError {
                case .connection?, .server(sqlState: "57P01", _)?: true
                default: false
                }
            }
            let echo: @Sendable (String) throws -> String? = { try postgres.query("SELECT $1::text", [$0]).value }
            let killer: @Sendable () -> Void = {
                _ = try? other.query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'forkguard'")
            }
            let parent = Echoes(of: "parent", expecting: isExpected, echo)
            parent.rehearse()
            let rehearsal = TestThread { while parent.counts.failed == 0 { parent.ask() } }
            while parent.counts.failed == 0 { killer() }
            rehearsal.join()
            var children = Echoes.Counts()
            for repetition in 0..<40 {
                let outcome = try ForkTesting.run(
                    repetition.isMultiple(of: 2) ? .forkGuard : .rawFork, while: [killer, { parent.ask() }, { parent.ask() }]
                ) { context in
                    let echoes = Echoes(of: "child\(repetition)", expecting: isExpected, echo)
                    let counts = echoes.ask(10)
                    context.expect(counts.failedUnexpectedly == 0, echoes.firstError ?? "")
                    return counts
                }
                XCTAssert(outcome.succeeded, "\(outcome)")
                children = children + (outcome.value ?? Echoes.Counts())
            }
            print("a server that closes everything all the time; children: \(children); parent: \(parent.counts)")
            XCTAssertEqual(children.asked, 400)
            XCTAssertEqual(children.crossed + parent.counts.crossed, 0)
            XCTAssertEqual(parent.counts.failedUnexpectedly, 0, parent.firstError ?? "")
            XCTAssertEqual(postgres.counters.leased, 0)
            // The last news may still be on its way: each of the four connections may fail once.
            XCTAssert((0..<5).contains { _ in (try? postgres.query("SELECT 'after'").value) == "after" })
        }

        func test_noDescriptorIsFreeAtReconnect() throws {
            @Sendable func failsAndThenWorks(_ postgres: PostgresClient) throws -> Bool {
                for _ in 0..<5 {
                    do {
                        try withoutFreeDescriptors { _ = try postgres.query("SELECT 1") }
                        return false
                    } catch PostgresError.connection(let words) where words.contains("Too many open files") {}
                }
                // No place was lost.
                return try postgres.query("SELECT 'later'").value == "later"
            }
            XCTAssert(try failsAndThenWorks(client(connections: 1)))
            let postgres = try client(connections: 1)
            _ = try backend(of: postgres)
            let counts = try ForkTesting.repeated(10, expecting: true, while: [{ _ = try? postgres.query("SELECT 1") }]) { _ in
                try failsAndThenWorks(postgres)
            }
            counts.expectAll("children that could open no descriptor for a while")
        }

        func test_noDescriptorIsFreeInTheChildHandler() throws {
            let postgres = try client(connections: 1)
            _ = try backend(of: postgres)
            let counts = try ForkTesting.repeated(10) { context in
                let process = try backend(of: postgres)
                // It has none to open for the tombstone.
                let child = try withoutFreeDescriptors {
                    try ForkGuard.fork {
                        allowDescriptors()
                        return try backend(of: postgres) != process && postgres.counters.made == 1 ? 0 : 1
                    }
                }
                context.expect(try child.wait(timeout: .seconds(5)) == .exited(0))
                context.expect(try backend(of: postgres) == process, "the connection was lost")
            }
            counts.expectAll("grandchildren whose handler could open nothing")
        }

        func test_noSIGPIPE() throws {
            let listener = try ScriptedListener { peer in
                peer.welcome()
                peer.receive()
            }
            let postgres = try makeClient(listener.port)
            let large = String(repeating: "x", count: 32 << 20)
            let outcome = try ForkTesting.run { context in
                signal(SIGPIPE, SIG_DFL)
                for _ in 0..<5 {
                    do {
                        try postgres.query("SELECT $1::text", [large])
                        context.fail("it was answered")
                    } catch PostgresError.connection {}
                }
            }
            XCTAssert(outcome.succeeded, "\(outcome)")
            listener.stop()
        }

        func test_aConnectThatFailsLosesNoPlace() throws {
            let port = try Loopback.unusedPort()
            let postgres = try makeClient(port, connections: 2)
            let refused = ForkMutex(0)
            let threads = (0..<16).map { _ in
                TestThread {
                    for _ in 0..<20 {
                        do { try postgres.query("SELECT 1") } catch { if error is PostgresError { refused.withLock { $0 += 1 } } }
                    }
                }
            }
            threads.forEach { $0.join() }
            XCTAssertEqual(refused.withLock { $0 }, 320)
            XCTAssertEqual(postgres.counters.leased, 0)
        }

        func test_aPoolOfZero() throws {
            XCTAssertThrowsError(try makeClient(try Loopback.unusedPort(), connections: 0)) {
                guard case ForkError.refused(let why)? = $0 as? ForkError else { return XCTFail("\($0)") }
                XCTAssert(why.contains("at most 0"), why)
            }
        }

        // ---- help ----

        private func client(connections: Int = 8, timeout: Duration = .seconds(5)) throws -> PostgresClient {
            try makeClient(try Servers.postgres().port, connections: connections, timeout: timeout)
        }

        private func expectState(_ sqlState: String, _ error: any Error, line: UInt = #line) {
            guard case PostgresError.server(sqlState, _)? = error as? PostgresError else { return XCTFail("\(error)", line: line) }
        }

        private func expectConnection(_ words: String, _ error: any Error, line: UInt = #line) {
            guard case PostgresError.connection(let said)? = error as? PostgresError else { return XCTFail("\(error)", line: line) }
            XCTAssert(said.contains(words), said, line: line)
        }
    }

    private func makeClient(
        _ port: UInt16, connections: Int = 8, timeout: Duration = .seconds(5), largestResult: Int = 64 << 20
    ) throws -> PostgresClient {
        try PostgresClient(
            ServerAddress(host: "127.0.0.1", port: port), user: "forkguard", database: "forkguard", connections: connections,
            timeout: timeout, largestResult: largestResult)
    }

    /// The server's process for a client that has one connection.
    private func backend(of postgres: PostgresClient) throws -> String? { try postgres.query("SELECT pg_backend_pid()").value }

    extension ScriptedListener.Peer {
        /// What PostgreSQL says to a start-up packet: authenticated, ready.
        fileprivate func welcome() {
            receive()
            send([0x52, 0, 0, 0, 8, 0, 0, 0, 0, 0x5a, 0, 0, 0, 5, 0x49])
        }
    }
#else
    import XCTest

    final class PostgresTests: XCTestCase {
        func test_libpq() throws { throw XCTSkip("built without libpq: run Scripts/test") }
    }
#endif
