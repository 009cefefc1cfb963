import ForkGuard
import Foundation
import Wire
import XCTest

/// The pre-forking server of Examples: async code and Dispatch in the parent, in the middle of that the forks, and async code and Dispatch
/// in the workers, which inherit it all.
final class PreforkingServerTests: XCTestCase {
    private static let clients = 8
    private static let kills = 40

    /// Workers are killed and stopped all the time, and nobody gets a wrong answer, or none.
    func test_preforkingServer_workersComeAndGo() throws {
        let server = try PreforkingServerProcess(redis: Servers.redis())
        let tally = Tally(), seen = ForkMutex<Set<Int32>>([], name: "workers seen"), isOver = ForkMutex(false, name: "over")
        let isCalm = ForkMutex(true, name: "calm")
        defer { isOver.withLock { $0 = true } }
        // Not known to this Redis, nor in the next run.
        let keys = (0..<Self.clients).map { "\(getpid())-\(UInt64(Date().timeIntervalSince1970 * 1000)).\($0)" }
        let address = server.address
        let threads = keys.map { key in
            TestThread {
                VerifyingClient(address, key: key, tally, seen: seen)
                    .run(isOver: { isOver.withLock { $0 } }, isCalm: { isCalm.withLock { $0 } })
            }
        }
        func answered(by workers: [pid_t], _ timeout: Duration) -> Bool {
            HTTPSupport.wait(timeout) { seen.withLock { seen in workers.allSatisfy { seen.contains($0) } } }
        }
        XCTAssert(HTTPSupport.wait(.seconds(5)) { server.living.count == 4 })
        XCTAssert(answered(by: server.living, .seconds(5)), "not all workers answer: \(tally)")
        var delays: [Duration] = []
        isCalm.withLock { $0 = false }
        for kill in 0..<Self.kills {
            let next = Deadline(in: .milliseconds(200))
            let printed = server.printed, begin = ContinuousClock.now
            Glibc.kill(try XCTUnwrap(server.living.first), kill.isMultiple(of: 2) ? SIGKILL : SIGTERM)
            isCalm.withLock { $0 = true }
            let isReplaced = HTTPSupport.wait(.seconds(1)) { server.forked(after: printed).count == 1 }
            XCTAssert(isReplaced && answered(by: server.forked(after: printed), .seconds(1)), "kill \(kill): no replacement answers")
            delays.append(ContinuousClock.now - begin)
            isCalm.withLock { $0 = false }
            usleep(UInt32(next.left / .microseconds(1)))  // the pace
        }
        isCalm.withLock { $0 = true }
        var answerers = seen.withLock { seen in
            defer { seen = [] }
            return seen
        }
        XCTAssert(answered(by: server.living, .seconds(5)), "not all workers answer at the end: \(tally)")
        isOver.withLock { $0 = true }
        for thread in threads { thread.join() }

        let printed = server.printed
        server.signal(SIGUSR1)
        let state = try server.line(after: printed, beginning: "parent: ", timeout: .seconds(5))
        let living = server.living, forked = Set(server.forked())
        XCTAssert(state.contains(" 0 wrong, 1 connections made; workers: ") && !state.hasPrefix("parent: 0 right"), state)
        XCTAssert(state.hasSuffix("workers: \(living.sorted().map { "\($0)" }.joined(separator: " ")); \(4 + Self.kills) forked"), state)
        XCTAssertEqual(living.filter { Glibc.kill($0, 0) == 0 }.count, 4)
        XCTAssertEqual(try server.stop(), 0)

        let requests = tally["echoes"] + tally["own counts"] + tally["shared counts"]
        XCTAssertEqual([tally["wrong"], tally["failed"]], [0, 0], "\(tally)")
        XCTAssertGreaterThan(requests, 1000)
        answerers.formUnion(seen.withLock { $0 })
        XCTAssert(answerers.count >= Self.kills && answerers.isSubset(of: forked), "somebody else answers")
        XCTAssert(tally["own counts"]...(tally["own counts"] + tally["resets in own counts"]) ~= tally["counted"], "\(tally)")
        delays.sort()
        print(
            "preforking-server: \(requests) right answers, \(tally["resets"] + tally["resets in own counts"]) resets,",
            "\(Self.kills) kills, \(tally["wrong"]) wrong;",
            "a replacement answers after \(delays[delays.count / 2]) (median), \(delays.last!) (longest); \(state)")
    }

    /// The control: without the cures no worker ever gets to its first answer.
    func test_preforkingServer_withoutTheCuresNoWorkerAnswers() throws {
        let server = try PreforkingServerProcess(redis: Servers.redis(), environment: ["FORKGUARD_RUNTIME": "off"])
        XCTAssert(HTTPSupport.wait(.seconds(5)) { server.living.count == 4 })
        let tally = Tally(), address = server.address
        let threads = (0..<Self.clients).map { _ in
            TestThread {
                do {
                    let connection = try Connection(to: address, timeout: .seconds(3))
                    tally.add("answered", 1, try VerifyingClient.ask("/pid", connection, Deadline(in: .seconds(3))))
                } catch WireError.timedOut {
                    tally.add("hung")
                } catch {
                    tally.add("failed", 1, "\(error)")
                }
            }
        }
        for thread in threads { thread.join() }
        XCTAssertEqual(tally["hung"], Self.clients, "\(tally)")
        XCTAssertEqual(server.living.count, 4)
        // The parent is well, and ends those that do not hear.
        XCTAssertEqual(try server.stop(), 0)
        print("preforking-server without the cures: \(tally)")
    }

    /// Every request of a load generator is answered.
    func test_preforkingServer_underLoad() throws {
        let server = try PreforkingServerProcess(redis: Servers.redis())
        let load = try LoadGenerator("http://127.0.0.1:\(server.address.port)/echo?id=load", connections: 16, seconds: 5).wait()
        XCTAssertEqual(try server.stop(), 0)
        XCTAssert(!load.others && load.read == 0 && load.timeout == 0, load.text)
        XCTAssertGreaterThan(load.requests, 1000)
        let rates = load.text.split(separator: "\n").filter { $0.contains("/sec") }
        print("preforking-server under load: \(load.requests) requests;", rates.joined(separator: ";"))
    }
}
