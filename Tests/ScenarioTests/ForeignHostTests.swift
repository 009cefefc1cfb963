import ForkGuard
import ForkGuardTesting
import Foundation
import Wire
import XCTest

/// A Swift library with threads, a pool of Redis connections and a mutex inside, in a process that is Python's and forks when it likes.
final class ForeignHostTests: XCTestCase {
    // ---- os.fork ----

    private struct Forks: Decodable {
        let forks, ok, hung, crashed, wrong, parentRight, parentWrong: Int
        let stacks: String
    }

    func test_python_osFork() throws {
        let counts = try forks(Hosts.hostedLibrary(), 500)
        XCTAssertEqual(counts.ok, 500, "\(counts)")
        XCTAssertEqual(counts.parentWrong, 0)
        XCTAssertGreaterThan(counts.parentRight, 1000)
    }

    func test_control_python_osFork() throws {
        let counts = try forks(Hosts.unguardedHostedLibrary(), 500)
        XCTAssertLessThan(counts.ok, counts.forks, "the control did not fail")
    }

    private func forks(_ library: String, _ times: Int, name: String = #function) throws -> Forks {
        let counts: Forks = try run("forks.py", [library, redis(), "\(times)", "3"])
        print(
            "python, os.fork: \(counts.forks) forks, \(counts.ok) ok, \(counts.wrong) wrong, \(counts.hung) hung, \(counts.crashed) crashed;",
            "the parent's answers: \(counts.parentRight) right, \(counts.parentWrong) wrong")
        return counts
    }

    // ---- multiprocessing ----

    private struct Processes: Decodable {
        let jobs, right, wrong, hung, processes, parentRight, parentWrong: Int
        let stacks: String
    }

    func test_python_multiprocessing() throws {
        let counts = try processes(Hosts.hostedLibrary(), patience: 30)
        XCTAssertEqual(counts.right, 1000, "\(counts)")
        XCTAssertEqual(counts.parentWrong, 0)
        // Each does five jobs, and is forked anew.
        XCTAssertGreaterThanOrEqual(counts.processes, 200)
    }

    func test_control_python_multiprocessing() throws {
        let counts = try processes(Hosts.unguardedHostedLibrary(), patience: 2)
        XCTAssertLessThan(counts.right, 1000, "the control did not fail")
    }

    private func processes(_ library: String, patience: Int) throws -> Processes {
        let counts: Processes = try run("processes.py", [library, redis(), "1000", "\(patience)"])
        print(
            "python, multiprocessing: \(counts.jobs) jobs in \(counts.processes) processes: \(counts.right) right, \(counts.wrong) wrong,",
            "\(counts.hung) not done; the parent's answers: \(counts.parentRight) right, \(counts.parentWrong) wrong")
        return counts
    }

    // ---- gunicorn ----

    /// The master has made the client, and forks the workers around its threads.
    func test_gunicorn_sync() throws { try serve(["--worker-class", "sync"], seconds: Self.seconds, losesOnlyWhatIsKilled: true) }

    /// Workers with threads. They close idle connections when they end, also some that were just used again.
    func test_gunicorn_gthread() throws {
        try serve(["--worker-class", "gthread", "--threads", "4"], seconds: Self.seconds / 2, losesOnlyWhatIsKilled: false)
    }

    func test_control_gunicorn_sync() throws { try fail(["--worker-class", "sync"]) }

    func test_control_gunicorn_gthread() throws { try fail(["--worker-class", "gthread", "--threads", "4"]) }

    /// For how long workers come and go.
    private static var seconds: Int { ProcessInfo.processInfo.environment["FORKGUARD_TEST_HOST_SECONDS"].flatMap(Int.init) ?? 20 }

    private func serve(_ arguments: [String], seconds: Int, losesOnlyWhatIsKilled: Bool) throws {
        let gunicorn = try Gunicorn(library: Hosts.hostedLibrary(), redis: redis(), arguments)
        let tally = Tally(), seen = ForkMutex<Set<pid_t>>([], name: "workers seen")
        let checkers = Checkers(gunicorn.address, tally, seen: seen, patience: .seconds(5))
        defer { checkers.stop() }
        let load = try LoadGenerator("http://127.0.0.1:\(gunicorn.address.port)/entry/12", connections: 8, seconds: seconds + 60)
        let end = Deadline(in: .seconds(seconds))
        var rounds = 0, kills = 0
        while !end.hasPassed {
            let next = Deadline(in: .milliseconds(500))
            switch rounds % 4 {
            case 0: try gunicorn.replaceAll()
            case 1: try gunicorn.add()
            case 2: try gunicorn.kill()
            default: try gunicorn.remove()
            }
            kills += rounds % 4 == 2 ? 1 : 0
            rounds += 1
            // Whoever is there answers.
            let answer = HTTPSupport.wait(.seconds(5)) { seen.withLock { $0.isSuperset(of: gunicorn.living) } }
            XCTAssert(answer, "round \(rounds): not all of \(gunicorn.living) answer: \(tally)\n\(gunicorn.stacks)")
            if tally["hung"] > 0 || !answer { break }
            usleep(UInt32(next.left / .microseconds(1)))  // the pace
        }
        let result = try load.stop()
        checkers.stop()
        XCTAssertEqual([tally["wrong"], tally["hung"]], [0, 0], "\(tally)\n\(gunicorn.stacks)")
        XCTAssert(!result.others && result.timeout == 0, result.text)
        if losesOnlyWhatIsKilled { XCTAssertLessThanOrEqual(result.read + tally["lost"], kills, "\(tally)\n\(result.text)") }
        XCTAssertGreaterThan(tally["right"], 100 * seconds)
        XCTAssertEqual(try gunicorn.stop(), 0)

        let log = gunicorn.lines
        XCTAssert(!log.contains { $0.contains("[CRITICAL]") || $0.contains("[ERROR]") }, log.joined(separator: "\n"))
        // It tells workers to end more than once, and the second time Python may have put its handler away.
        XCTAssertEqual(log.filter { $0.contains("due to signal") && !$0.hasSuffix(" 15") }.count, kills)
        let refreshers = try Refreshers(log)
        XCTAssertGreaterThan(refreshers.master(gunicorn.identifier), 10 * seconds)
        XCTAssertEqual(refreshers.wrong, 0)
        print(
            "gunicorn \(arguments[1]), \(seconds) s: \(gunicorn.booted.count) workers, \(rounds) signals, \(kills) kills; \(result.requests)",
            "requests by wrk, \(result.read) lost; checked: \(tally); refreshers: \(refreshers.right) right, \(refreshers.wrong) wrong")
    }

    private func fail(_ arguments: [String]) throws {
        let gunicorn = try Gunicorn(library: Hosts.unguardedHostedLibrary(), redis: redis(), arguments)
        let tally = Tally()
        let checkers = Checkers(gunicorn.address, tally, seen: ForkMutex([], name: "workers seen"), patience: .seconds(2))
        let failed = HTTPSupport.wait(.seconds(20)) { tally["wrong"] + tally["hung"] > 0 }
        checkers.stop()
        XCTAssert(failed, "the control did not fail: \(tally)")
        _ = try gunicorn.stop()
        print("gunicorn \(arguments[1]), without ForkGuard: \(tally)")
    }

    /// What the application says at the end of each process.
    private struct Refreshers {
        private var counts: [pid_t: (right: Int, wrong: Int)] = [:]

        init(_ log: [String]) throws {
            for line in log where line.hasPrefix("refreshers of ") {
                let numbers = line.split(whereSeparator: { !$0.isNumber }).compactMap { Int($0) }
                guard numbers.count == 3 else { throw Gunicorn.Unexpected(description: line) }
                counts[pid_t(numbers[0])] = (numbers[1], numbers[2])
            }
        }

        func master(_ identifier: pid_t) -> Int { counts[identifier]?.right ?? 0 }
        var right: Int { counts.values.reduce(0) { $0 + $1.right } }
        var wrong: Int { counts.values.reduce(0) { $0 + $1.wrong } }
    }

    /// Threads that ask: half for what is stored, half to count.
    private final class Checkers {
        private let isOver = ForkMutex(false, name: "over")
        private var threads: [TestThread] = []

        init(_ address: ServerAddress, _ tally: Tally, seen: ForkMutex<Set<pid_t>>, patience: Duration) {
            let isOver = isOver
            threads = (0..<4).map { index in
                TestThread {
                    let key = "\(getpid())-\(UInt64(Date().timeIntervalSince1970 * 1_000_000))-\(index)"
                    var asked = 0, last = 0
                    AnswerChecker(address, tally, seen: seen, patience: patience).run(isOver: { isOver.withLock { $0 } }) {
                        asked += 1
                        if asked.isMultiple(of: 2) {
                            let number = Int.random(in: 0..<64)
                            return ("/entry/\(number)", { _, answer, _ in answer == "value \(number)" })
                        }
                        return (
                            "/incr/\(key)",
                            { _, answer, lost in
                                // What was lost may have counted.
                                guard let value = Int(answer), (last + 1)...(last + 1 + lost) ~= value else { return false }
                                last = value
                                return true
                            }
                        )
                    }
                }
            }
        }

        func stop() {
            isOver.withLock { $0 = true }
            for thread in threads { thread.join() }
            threads = []
        }
    }

    // ---- how ----

    private func redis() throws -> String {
        let (host, port) = try Servers.redis()
        return "\(host):\(port)"
    }

    /// What a program prints.
    private func run<Counts: Decodable>(_ program: String, _ arguments: [String]) throws -> Counts {
        let script = Hosts.programs.appendingPathComponent(program).path
        let process = try LoggedProcess(
            Hosts.program("python3"), [script] + arguments, environment: ["PYTHONDONTWRITEBYTECODE": "1"])
        XCTAssertEqual(try process.ending(timeout: .seconds(120)), 0)
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Counts.self, from: Data(process.lines.joined().utf8))
    }
}
