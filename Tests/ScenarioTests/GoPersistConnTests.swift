import ForkGuard
import ForkGuardTesting
import Glibc
import HTTPClient
import Wire
import XCTest

/// BFE, which has its HTTP transport from an early Go: two loops for each kept-alive connection, and read loops that wait for ever when the
/// server closes.
final class GoPersistConnTests: HTTPTestCase {
    private static let count = 100
    /// For the descriptors and the threads of a hundred connections to be gone.
    private static let patience = Duration.seconds(10)

    func test_behaviour43_theServerClosesAHundred() throws {
        let server = try HTTPSupport.nginxClosing()
        try expectBaseline("closed by the server after a second", server, idleTimeout: .seconds(50)) { connections in
            XCTAssert(HTTPSupport.wait(Self.patience) { !connections.contains { $0.isIdle } })
            for connection in connections {
                XCTAssertThrowsError(try connection.send(HTTPRequest("GET", "/"), timeout: .seconds(1))) {
                    XCTAssertEqual($0 as? WireError, .closedByPeer)
                }
            }
        }
    }

    func test_behaviour43_idleForTooLongAndClosedHere() throws {
        let server = try HTTPSupport.nginx()
        try expectBaseline("idle for half a second", server, idleTimeout: .milliseconds(500)) { connections in
            XCTAssert(HTTPSupport.wait(Self.patience) { !connections.contains { $0.isIdle } })
        }
        try expectBaseline("closed here", server, idleTimeout: .seconds(50)) { connections in connections.forEach { $0.close() } }
    }

    func test_behaviour43_children() throws {
        let nginx = try HTTPSupport.nginx()
        let closing = try HTTPSupport.nginxClosing()
        let client = HTTPClient()
        let request = try HTTPRequest("GET", "/echo?id=1")
        let descriptors = HTTPSupport.descriptors()
        let connections = ForkMutex(try Self.connect(to: closing, idleTimeout: .seconds(50)))
        defer { connections.withLock { $0.forEach { $0.close() } } }
        // The server closes idle ones all the time, also while children start; each is replaced.
        let replaced = ForkMutex(0)
        @Sendable func useAndReplace() {
            usleep(1000)
            for index in 0..<Self.count {
                let connection = connections.withLock { $0[index] }
                if connection.isIdle, index % 2 == 0 { _ = try? connection.send(request, timeout: .seconds(10)) }
                guard !connection.isIdle else { continue }
                connection.close()
                if let fresh = try? PersistentConnection(to: closing, timeout: .seconds(10)) {
                    connections.withLock { $0[index] = fresh }
                    replaced.withLock { $0 += 1 }
                }
            }
        }
        let hammers: [@Sendable () -> Void] = [
            useAndReplace,
            {
                _ = try? client.get("/", from: nginx)
                usleep(1000)
            },
        ]
        for method in [ForkMethod.forkGuard, .rawFork] {
            let counts = try ForkTesting.repeated(40, method, while: hammers) { context in
                // What a hundred tombstones would take is the child's again.
                context.expect(HTTPSupport.descriptors() < descriptors + 50, "\(HTTPSupport.descriptors()) descriptors")
                let before = HTTPSupport.threads()
                let connection = connections.withLock { $0[context.repetition % Self.count] }
                let duration = try ContinuousClock().measure {
                    do {
                        _ = try connection.send(request, timeout: .seconds(10))
                        context.fail("an inherited connection answered")
                    } catch ForkError.staleGeneration {
                    }
                    context.expect(try client.get("/echo?id=1", from: nginx).text == "1")
                    context.expect(try client.get("/echo?id=2", from: closing).text == "2")
                }
                context.expect(duration < .seconds(1), "\(duration)")
                context.expect(HTTPSupport.threads() == before + 4, "\(HTTPSupport.threads() - before) threads for two connections")
                client.closeIdle()
                context.expect(HTTPSupport.wait(.seconds(5)) { HTTPSupport.threads() == before }, "loops were left behind")
            }
            counts.expectAll("\(method): children that get an error or an answer within a second")
        }
        print("connections that the server closed meanwhile: \(replaced.withLock { $0 })")
    }

    func test_control_readLoopsWaitForEver() throws {
        let port = try HTTPSupport.nginxClosing().port
        let threads = HTTPSupport.threads()
        let descriptors = HTTPSupport.descriptors()
        let connections = (0..<Self.count).map { _ in PlainPersistentConnection(port: port) }
        defer {
            connections.forEach { $0.putDown() }
            XCTAssert(HTTPSupport.wait(Self.patience) { HTTPSupport.threads() <= threads })
        }
        for connection in connections { connection.begin("/echo?id=1") }
        XCTAssert(HTTPSupport.wait(Self.patience) { connections.allSatisfy { $0.hasAnswer } })

        // In a child the loops that would send and read do not exist.
        let counts = try ForkTesting.repeated(5, .rawFork, deadline: .seconds(2), stopAfterHung: 2, while: [{ usleep(1000) }]) { context in
            let connection = connections[context.repetition]
            _ = connection.finish()
            connection.begin("/echo?id=1")
            context.expect(connection.finish() == "1")
        }
        counts.expectSomeBad("control, children that ask on an inherited connection", atLeast: 2)

        // The server closes the connections before those who asked have fetched their answers.
        XCTAssert(HTTPSupport.wait(Self.patience) { connections.allSatisfy { $0.isClosedByPeer } })
        for connection in connections { XCTAssertEqual(connection.finish(), "1") }
        XCTAssertFalse(HTTPSupport.wait(.seconds(2)) { HTTPSupport.threads() <= threads && HTTPSupport.descriptors() <= descriptors })
        let left = (threads: HTTPSupport.threads() - threads, descriptors: HTTPSupport.descriptors() - descriptors)
        print("control: \(left.threads) threads and \(left.descriptors) descriptors of \(Self.count) closed connections are left for ever")
        XCTAssertEqual(left.threads, 2 * Self.count)
        XCTAssertEqual(left.descriptors, Self.count)
    }

    private static func connect(to server: ServerAddress, idleTimeout: Duration) throws -> [PersistentConnection] {
        try (0..<count).map { _ in
            let connection = try PersistentConnection(to: server, timeout: .seconds(10), idleTimeout: idleTimeout)
            let status = try connection.send(HTTPRequest("GET", "/"), timeout: .seconds(10)).status
            XCTAssertEqual(status, 200)
            return connection
        }
    }

    /// Connects a hundred times, lets `end` see to their end, and waits until nothing is left of them.
    private func expectBaseline(
        _ what: String, _ server: ServerAddress, idleTimeout: Duration, end: ([PersistentConnection]) throws -> Void
    ) throws {
        let threads = HTTPSupport.threads()
        let descriptors = HTTPSupport.descriptors()
        let connections = try Self.connect(to: server, idleTimeout: idleTimeout)
        let most = (threads: HTTPSupport.threads() - threads, descriptors: HTTPSupport.descriptors() - descriptors)
        try end(connections)
        let isBack = HTTPSupport.wait(Self.patience) { HTTPSupport.threads() <= threads && HTTPSupport.descriptors() <= descriptors }
        let left = (threads: HTTPSupport.threads() - threads, descriptors: HTTPSupport.descriptors() - descriptors)
        XCTAssert(isBack, "\(what): \(left.threads) threads and \(left.descriptors) descriptors are left")
        XCTAssertGreaterThan(most.descriptors, 0)
        print("\(what): of \(most.threads) threads and \(most.descriptors) descriptors of \(Self.count) connections 0 are left")
    }
}

/// Its twin: the loops of Go 1.4, which BFE had until 2025, with threads, mutex and condition for goroutines and channels.
private final class PlainPersistentConnection: @unchecked Sendable {
    // @unchecked: what varies is touched with the mutex locked; the pointers are constants.
    private let number: Int32
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    /// Answers that the read loop is to expect.
    private var expected = 0
    private var toWrite: [String] = []
    private var toRead = 0
    private var answers: [String] = []
    private var isClosed = false
    private var isPutDown = false
    private let loops = ForkMutex<[TestThread]>([])

    init(port: UInt16) {
        number = HTTPSupport.plainConnection(to: port)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
        loops.withLock { $0 = [TestThread { self.readLoop() }, TestThread { self.writeLoop() }] }
    }

    deinit {
        mutex.deallocate()
        condition.deallocate()
    }

    /// The first half of a request: hands it to both loops.
    func begin(_ path: String) {
        change {
            expected += 1
            toWrite.append(path)
            toRead += 1
        }
    }

    /// The second: fetches the answer, and says that one less is to be expected, too late for a read loop that goes on meanwhile.
    func finish() -> String {
        change {
            while answers.isEmpty { pthread_cond_wait(condition, mutex) }
            expected -= 1
            return answers.removeFirst()
        }
    }

    var hasAnswer: Bool { change { !answers.isEmpty } }

    var isClosedByPeer: Bool {
        var byte: UInt8 = 0
        return recv(number, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT)) == 0
    }

    /// For the test, which is to leave nothing behind.
    func putDown() {
        change { isPutDown = true }
        shutdown(number, Int32(SHUT_RDWR))
        for loop in loops.withLock({ $0 }) { loop.join() }
        if !isClosed { close(number) }
    }

    private func readLoop() {
        while true {
            var byte: UInt8 = 0
            recv(number, &byte, 1, Int32(MSG_PEEK))
            let isOver = change {
                if expected == 0 {
                    isClosed = true
                    close(number)
                    return true
                }
                while toRead == 0 && !isPutDown { pthread_cond_wait(condition, mutex) }
                toRead -= 1
                return isPutDown
            }
            guard !isOver, let text = HTTPSupport.plainReceive(on: number) else { return }
            change { answers.append(text) }
        }
    }

    private func writeLoop() {
        while true {
            let path: String? = change {
                while toWrite.isEmpty && !isClosed && !isPutDown { pthread_cond_wait(condition, mutex) }
                return toWrite.isEmpty ? nil : toWrite.removeFirst()
            }
            guard let path else { return }
            _ = HTTPSupport.plainSend(path, on: number)
        }
    }

    @discardableResult
    private func change<Result>(_ body: () -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer {
            pthread_cond_broadcast(condition)
            pthread_mutex_unlock(mutex)
        }
        return body()
    }
}
