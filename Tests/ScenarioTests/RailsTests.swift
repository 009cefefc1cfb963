import ForkGuard
import ForkGuardTesting
import Glibc
import MemcachedClient
import Wire
import XCTest

/// Rails, dalli, redis-rb and connection_pool: code that is loaded by whoever needs it first, class-level variables that two requests
/// write, connections that a child closes in its parent's name. Each with its unguarded twin, and with ForkGuard against a real memcached.
final class RailsTests: XCTestCase {

    // ---- code that is loaded when it is needed ----

    func test_codeLoadedByAVanishedThread_control() throws {
        let counts = try ForkTesting.repeated(5, expecting: "hung", deadline: .seconds(15)) { _ in
            try Loading.childAsks(patience: .seconds(10), deadline: .seconds(1)) { _ = Code.table }
        }
        counts.expectAll("a child asks for a lazy global that a vanished thread was initialising: hung")
    }

    func test_preload() throws {
        let counts = try ForkTesting.repeated(60, expecting: "answered", concurrently: 2) { _ in
            try Loading.childAsks(patience: .milliseconds(20), deadline: .seconds(5)) { ForkGuard.preload { _ = Code.table } }
        }
        counts.expectAll("a child asks for a lazy global that another thread was preloading: answered")
    }

    // ---- class-level variables ----

    /// Each request counts itself, and writes two variables that belong together.
    func test_classVariables_control() throws {
        let requests = Counter()
        let hammer: @Sendable () -> Void = {
            for user in 1...1000 {
                let before = PlainVisits.all.count
                PlainVisits.all.user = user
                PlainVisits.all.page = Self.rendered(user)
                PlainVisits.all.count = before + 1
            }
            requests.add(1000)
        }
        let counts = try ForkTesting.repeated(200, while: [hammer, hammer]) { $0.expect(PlainVisits.all.user == PlainVisits.all.page) }
        let lost = requests.value - PlainVisits.all.count
        XCTAssertGreaterThan(lost, 0)
        print("class-level variables, no lock: \(lost) of \(requests.value) updates lost")
        counts.expectSomeBad("class-level variables, no lock: children that find one of two written")
    }

    func test_classVariables() throws {
        let requests = Counter()
        let hammer: @Sendable () -> Void = {
            for user in 1...1000 {
                Visits.all.withLock { visits in
                    let before = visits.count
                    visits.user = user
                    visits.page = Self.rendered(user)
                    visits.count = before + 1
                }
            }
            requests.add(1000)
        }
        let counts = try ForkTesting.repeated(200, while: [hammer, hammer]) { context in
            Visits.all.withLock { visits in context.expect(visits.user == visits.page) }
        }
        counts.expectAll("class-level variables in a ForkMutex: children that find both written")
        XCTAssertEqual(Visits.all.withLock { $0.count }, requests.value)
        print("class-level variables in a ForkMutex: 0 of \(requests.value) updates lost")
    }

    /// A page for the user, which takes a moment, as pages do.
    private static func rendered(_ user: Int) -> Int { (0..<100).reduce(user) { $0 ^ $1 ^ $1 } }

    /// A dictionary that two threads write without a lock ends the process, so each trial has its own.
    func test_classDictionary_control() throws {
        let counts = try ForkTesting.repeated(20, expecting: 40_000, deadline: .seconds(3), stopAfterHung: 2) { _ in
            twoThreads { key in PlainVisits.byUser[key] = key }
            return PlainVisits.byUser.count
        }
        counts.expectSomeBad("a class-level dictionary, no lock, two requests")
    }

    func test_classDictionary() throws {
        let counts = try ForkTesting.repeated(20, expecting: 40_000) { _ in
            twoThreads { key in Visits.byUser.withLock { $0[key] = key } }
            return Visits.byUser.withLock { $0.count }
        }
        counts.expectAll("a class-level dictionary in a ForkMutex, two requests")
    }

    // ---- connections ----

    func test_behaviour30_memcached_control() throws {
        let port = try Servers.memcached().port
        var ended = 0
        for way in LettingGo.allCases {
            for _ in 1...5 {
                let owned = Owned(try PlainMemcached(port: port))
                try owned.get().set("rails:plain", to: "1")
                try way.inChildren(1, .rawFork, owned) { $0.quit() }
                do { _ = try owned.get().get("rails:plain") } catch { ended += 1 }
            }
        }
        XCTAssertEqual(ended, 10)
        print("behaviour30, memcached, unguarded: \(ended) of 10 connections of the parent's ended by a child's goodbye")
    }

    func test_behaviour30_memcached() throws {
        let server = try memcached()
        for sharing in [MemcachedClient.Sharing.pool(maximum: 2), .locked] {
            let owned = Owned(try MemcachedClient(to: server, sharing))
            try owned.get().set("rails:counter", to: Array("0".utf8))
            var answered: UInt64 = 0
            for method in [ForkMethod.forkGuard, .rawFork, .underscoreFork] where method.isAvailable {
                for way in LettingGo.allCases {
                    try way.inChildren(3, method, owned) { $0.close() }
                    for _ in 1...1000 {
                        answered += 1
                        XCTAssertEqual(try owned.get().increment("rails:counter"), answered)
                    }
                }
            }
            XCTAssertEqual(try owned.get().connectionsMade, 1)
            print(
                "behaviour30, memcached, \(sharing): \(answered) requests answered right beside children that let go, all on 1 connection")
        }
    }

    /// What dalli's users saw before it looked at the process id: parent and children talk on one connection.
    func test_sharedConnection_control() throws {
        let port = try Servers.memcached().port
        let shared = Owned(try PlainMemcached(port: port))
        let request: @Sendable (String) -> Bool = { name in
            shared.client.withLock { connection in
                do {
                    if connection == nil { connection = try PlainMemcached(port: port) }
                    try connection?.set("rails:\(name)", to: name)
                    return try connection?.get("rails:\(name)") == name
                } catch {
                    connection = nil
                    return false
                }
            }
        }
        XCTAssert(request("rehearsal"))
        let wrong = Counter()
        let hammer: @Sendable () -> Void = { if !request("parent") { wrong.add() } }
        let counts = try ForkTesting.repeated(40, expecting: 20, deadline: .seconds(5), while: [hammer]) { context in
            (0..<20).reduce(0) { right, _ in right + (request("child\(context.repetition)") ? 1 : 0) }
        }
        counts.expectSomeBad("parent and child on one unguarded connection: children with a wrong answer, or none")
        print("parent and child on one unguarded connection: \(wrong.value) wrong answers, or none, in the parent")
    }

    func test_children() throws {
        let server = try memcached()
        for sharing in [MemcachedClient.Sharing.pool(maximum: 2), .locked] {
            let client = try MemcachedClient(to: server, sharing)
            let requests = Counter()
            let wrong = Counter()
            let failures = Log()
            let hammers = (1...4).map { number -> @Sendable () -> Void in
                {
                    requests.add()
                    do { if !(try roundTrip(client, "parent\(number)")) { wrong.add() } } catch { failures.add("\(error)") }
                }
            }
            for method in [ForkMethod.forkGuard, .rawFork] {
                let counts = try ForkTesting.repeated(60, expecting: 20, method, while: hammers) { context in
                    try (0..<20).reduce(0) { right, _ in right + (try roundTrip(client, "child\(context.repetition)") ? 1 : 0) }
                }
                counts.expectAll("\(sharing), \(method): children with 20 right answers of 20")
            }
            XCTAssertEqual(wrong.value, 0)
            XCTAssertEqual(failures.take(), [])
            print(
                "\(sharing): \(requests.value) requests of the parent's meanwhile, 0 wrong, 0 failed, \(client.connectionsMade) connections"
            )
            XCTAssertLessThanOrEqual(client.connectionsMade, 2)
        }
    }

    /// A child of a fork that ran no handlers finds out by itself that the connection is its parent's.
    func test_childrenOfForksThatRunNoHandlers() throws {
        let server = try memcached()
        for sharing in [MemcachedClient.Sharing.pool(maximum: 2), .locked] {
            let client = try MemcachedClient(to: server, sharing)
            XCTAssert(try roundTrip(client, "parent"))
            for method in ForkMethod.available where !method.runsForkHandlers {
                let counts = try ForkTesting.repeated(10, method) { context in
                    for _ in 1...10 { context.expect(try roundTrip(client, "child")) }
                }
                counts.expectAll("\(sharing), \(method)")
                for _ in 1...10 { XCTAssert(try roundTrip(client, "parent")) }
            }
            XCTAssertEqual(client.connectionsMade, 1)
        }
    }

    /// What was answered was done, once; what the children did, too.
    func test_everyAnsweredIncrementCounts() throws {
        let client = try MemcachedClient(to: try memcached(), .pool(maximum: 3))
        try client.set("rails:answered", to: Array("0".utf8))
        let answered = Counter()
        let hammer: @Sendable () -> Void = { if (try? client.increment("rails:answered")) != nil { answered.add() } }
        hammer()
        let counts = try ForkTesting.repeated(50, expecting: 10, while: Array(repeating: hammer, count: 4)) { _ in
            try (0..<10).reduce(0) { done, _ in done + (try client.increment("rails:answered") == nil ? 0 : 1) }
        }
        counts.expectAll("children that increment 10 times")
        XCTAssertEqual(try client.get("rails:answered"), Array("\(answered.value + 500)".utf8))
        print("increments: \(answered.value) answered in the parent, 500 in the children, all counted once")
    }

    // ---- help ----

    private func memcached() throws -> ServerAddress {
        let address = try Servers.memcached()
        return try ServerAddress(host: address.host, port: address.port)
    }
}

/// Two requests with a value of one's own: whether the answer is that.
private func roundTrip(_ client: MemcachedClient, _ name: String) throws -> Bool {
    try client.set("rails:\(name)", to: Array(name.utf8))
    return try client.get("rails:\(name)") == Array(name.utf8)
}

private func twoThreads(_ insert: @escaping @Sendable (Int) -> Void) {
    let begun = [Signal(), Signal()]
    let threads = (0...1).map { number in
        TestThread {
            // Neither begins before the other can.
            begun[number].send()
            begun[1 - number].wait(.seconds(5))
            for key in 0..<20_000 { insert(2 * key + number) }
        }
    }
    threads.forEach { $0.join() }
}

/// What is loaded by whoever needs it first.
private enum Code {
    static let table = Loading.table()
}

/// Loading code takes a while; tests decide how long.
private enum Loading {
    nonisolated(unsafe) static var patience = Duration.zero  // Set before the thread is made that reads it.
    static let begun = Signal()
    static let enough = Signal()

    static func table() -> [Int] {
        begun.send()
        enough.wait(patience)
        return [1, 2, 3]
    }

    /// Run in a fresh process, because a global is initialised once: `load` is called in a thread, and while that is in the middle of it a
    /// child is forked that wants the same. What became of the child.
    static func childAsks(patience: Duration, deadline: Duration, _ load: @escaping @Sendable () -> Void) throws -> String {
        Loading.patience = patience
        let thread = TestThread(load)
        guard begun.wait(.seconds(5)) else { return "never loaded" }
        let child = try ForkGuard.fork { Code.table.count == 3 ? 0 : 1 }
        enough.send()
        thread.join()
        do {
            return try child.wait(timeout: deadline) == .exited(0) ? "answered" : "wrong"
        } catch {
            try child.signal(SIGKILL)
            _ = try child.wait(timeout: .seconds(5))
            return "hung"
        }
    }
}

/// Class-level variables.
private struct Visits {
    var count = 0
    var user = 0
    var page = 0

    static let all = ForkMutex(Visits(), name: "visits")
    static let byUser = ForkMutex<[Int: Int]>([:], name: "visits by user")
}

/// The same without a lock.
private enum PlainVisits {
    // Sound by nothing: that is what the control shows.
    nonisolated(unsafe) static var all = Visits()
    nonisolated(unsafe) static var byUser: [Int: Int] = [:]
}

/// The first lines of what went wrong.
private final class Log: Sendable {
    private let lines = ForkMutex<[String]>([], name: "log")

    func add(_ line: String) { lines.withLock { if $0.count < 5 { $0.append(line) } } }
    func take() -> [String] { lines.withLock { $0 } }
}
