import ForkGuard
import ForkGuardTesting
import Glibc
import HTTPClient
import Wire
import XCTest

/// AWS SDK for Ruby: an HTTP connection pool for all threads, in a hash by endpoint, that a child finds as it was in the middle of its use.
final class AWSSeahorsePoolTests: HTTPTestCase {
    /// Names of one host, each an endpoint of its own to a client.
    private static let names = ["127.0.0.1", "127.1", "127.0.1", "0x7f.1", "0x7f.0.1", "0177.1", "0177.0.1", "2130706433"]

    func test_behaviour39_aThreadIsInsideThePoolsDictionary() throws {
        let port = try HTTPSupport.nginx().port
        let endpoints = try Self.names.map { try ServerAddress(host: $0, port: port) }
        let client = HTTPClient(connectionsPerServer: 4)
        // These stay, and say whether somebody closed them or used them in between.
        let alone = HTTPClient(connectionsPerServer: 1)
        let number = try XCTUnwrap(HTTPSupport.connectionNumber(alone.get("/connection", from: endpoints[0])))
        let kept = try (0..<4).map { _ in try KeptConnection(to: endpoints[0]) }
        defer { kept.forEach { $0.connection.close() } }
        let wrong = ForkMutex<[String]>([])

        let turns = ForkMutex(0)
        @Sendable func insertRemoveAndWalk() {
            let turn = turns.withLock { turns in
                turns += 1
                return turns
            }
            do {
                let answer = try client.get("/echo?id=\(turn)", from: endpoints[turn % endpoints.count])
                if answer.text != "\(turn)" { wrong.withLock { $0.append("\(turn) was answered with \(answer.text)") } }
            } catch {
                wrong.withLock { $0.append("\(error)") }
            }
            if turn % 64 == 0 { client.closeIdle() }
        }
        @Sendable func walk() { _ = client.idleConnections }
        @Sendable func useTheKept() {
            for kept in kept { if let problem = kept.problem() { wrong.withLock { $0.append(problem) } } }
            let now = try? HTTPSupport.connectionNumber(alone.get("/connection", from: endpoints[0]))
            if now != number { wrong.withLock { $0.append("connection \(number) has become \(now ?? -1)") } }
        }

        for (method, times) in [(ForkMethod.forkGuard, 500), (.rawFork, 100)] {
            let counts = try ForkTesting.repeated(
                times, method, while: [insertRemoveAndWalk, insertRemoveAndWalk, insertRemoveAndWalk, walk, useTheKept]
            ) { context in
                let id = "child-\(context.repetition)"
                let endpoint = endpoints[context.repetition % endpoints.count]
                context.expect(client.idleConnections == 0, "idle ones were inherited")
                context.expect(try client.get("/echo?id=\(id)", from: endpoint).text == id)
                context.expect(client.idleConnections == 1)
                let own = try HTTPSupport.connectionNumber(client.get("/connection", from: endpoint))
                let another = try HTTPSupport.connectionNumber(alone.get("/connection", from: endpoints[0]))
                context.expect(own != another && own != nil && another != number)
                for kept in kept {
                    context.expect(own != kept.number && another != kept.number)
                    kept.connection.close()
                }
            }
            counts.expectAll("\(method): children that use the pool")
        }
        XCTAssertEqual(wrong.withLock { Array($0.prefix(5)) }, [])
        let requests = kept.map { $0.requests.withLock { $0 } }
        print("requests on the parent's four connections, each its own still: \(requests); \(turns.withLock { $0 }) through the pool")
    }

    func test_control_aPoolUnderAMutex() throws {
        let pool = PlainPool(port: try HTTPSupport.nginx().port)
        defer { pool.closeAll() }
        let counts = try ForkTesting.repeated(500, .rawFork, deadline: .seconds(2), stopAfterHung: 3, while: pool.hammers) { context in
            context.expect(pool.request("/echo?id=1", endpoint: "child") == "1")
        }
        counts.expectSomeBad("control, under a mutex")
        XCTAssertGreaterThan(counts.hung, 0)
    }

    func test_control_aPoolWhoseMutexTheChildMakesAnew() throws {
        let pool = PlainPool(port: try HTTPSupport.nginx().port)
        defer { pool.closeAll() }
        // One in a thousand to one in seven, by where the machine takes the processor away: until one is seen.
        var counts: ForkCounts
        var rounds = 0
        repeat {
            rounds += 1
            counts = try ForkTesting.repeated(200, .rawFork, deadline: .seconds(2), while: pool.hammers) { context in
                pool.makeMutexAnew()
                // What the child may do: walk, insert, remove.
                context.expect(pool.isWhole, "the dictionary is torn")
                for round in 0..<4 {
                    for endpoint in 0..<64 { pool.putBack(-1, endpoint: "child \(endpoint)") }
                    for endpoint in 0..<64 { context.expect(pool.take(endpoint: "child \(endpoint)") == -1, "lost in round \(round)") }
                }
                context.expect(pool.isWhole, "the dictionary is torn after use")
            }
        } while counts.failed + counts.hung + counts.crashed == 0 && rounds < 25
        counts.expectSomeBad("control, under a mutex that the child makes anew, round \(rounds)")
    }
}

/// A connection of the parent's, and what the server says of it.
private final class KeptConnection: Sendable {
    let connection: PersistentConnection
    let number: Int
    let requests = ForkMutex(1)

    init(to server: ServerAddress) throws {
        connection = try PersistentConnection(to: server, timeout: .seconds(10))
        number = try XCTUnwrap(HTTPSupport.connectionNumber(connection.send(HTTPRequest("GET", "/connection"), timeout: .seconds(10))))
    }

    /// Nobody else has asked anything on it, and it has not been closed.
    func problem() -> String? {
        let turn = requests.withLock { requests in
            requests += 1
            return requests
        }
        do {
            let text = try connection.send(HTTPRequest("GET", "/connection"), timeout: .seconds(10)).text
            return text == "\(number) \(turn)" ? nil : "request \(turn) on connection \(number): the server says \(text)"
        } catch {
            return "request \(turn) on connection \(number): \(error)"
        }
    }
}

/// The pool as it was: idle connections by endpoint, under a mutex.
private final class PlainPool: @unchecked Sendable {
    // @unchecked: what varies is touched with the mutex locked; the pointer is a constant. That a child breaks this is what is shown.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let port: UInt16
    private var idle: [String: [Int32]] = [:]
    private var count = 0

    init(port: UInt16) {
        self.port = port
        pthread_mutex_init(mutex, nil)
        for endpoint in 0..<16 { putBack(HTTPSupport.plainConnection(to: port), endpoint: "\(endpoint)") }
    }

    deinit { mutex.deallocate() }

    func makeMutexAnew() { pthread_mutex_init(mutex, nil) }

    /// A request by the pool, threads that take, insert and remove endpoints, and one that walks.
    var hammers: [@Sendable () -> Void] {
        let insertAndRemove: @Sendable () -> Void = { [self] in
            for endpoint in 0..<16 { if let number = take(endpoint: "\(endpoint)") { putBack(number, endpoint: "other \(endpoint)") } }
            for endpoint in 0..<16 { if let number = take(endpoint: "other \(endpoint)") { putBack(number, endpoint: "\(endpoint)") } }
        }
        return [{ [self] in _ = request("/echo?id=1", endpoint: "0") }, insertAndRemove, insertAndRemove, { [self] in _ = isWhole }]
    }

    func request(_ path: String, endpoint: String) -> String? {
        let number = take(endpoint: endpoint) ?? HTTPSupport.plainConnection(to: port)
        guard HTTPSupport.plainSend(path, on: number), let text = HTTPSupport.plainReceive(on: number) else {
            close(number)
            return nil
        }
        putBack(number, endpoint: endpoint)
        return text
    }

    func take(endpoint: String) -> Int32? {
        withLock {
            guard let number = idle[endpoint]?.popLast() else { return nil }
            if idle[endpoint] == [] { idle[endpoint] = nil }
            count -= 1
            return number
        }
    }

    func putBack(_ number: Int32, endpoint: String) {
        withLock {
            idle[endpoint, default: []].append(number)
            count += 1
        }
    }

    /// Walks it.
    var isWhole: Bool {
        withLock {
            var found = 0
            for (endpoint, numbers) in idle where !numbers.isEmpty && idle[endpoint] == numbers { found += numbers.count }
            return found == count
        }
    }

    func closeAll() {
        withLock {
            for numbers in idle.values { numbers.forEach { close($0) } }
            idle = [:]
        }
    }

    private func withLock<Result>(_ body: () -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }
}
