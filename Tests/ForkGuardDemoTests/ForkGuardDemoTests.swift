import Foundation
import XCTest

final class ForkGuardDemoTests: XCTestCase {
    func testHelpNamesEveryOption() throws {
        let demo = try DemoProcess("--help")
        XCTAssertEqual(demo.status, 0)
        XCTAssertEqual(demo.errors, "")
        for option in ["--redis HOST:PORT", "--children N", "--threads N", "--seed N", "--json", "--help"] {
            XCTAssert(demo.output.contains(option), option)
        }
    }

    func testEveryBadArgumentIsNamed() throws {
        try assertUsageError(["--bogus"], "'--bogus' is not an option")
        try assertUsageError(["extra"], "'extra' is not an option")
        try assertUsageError(["--children"], "--children needs a value")
        try assertUsageError(["--children", "0"], "--children: '0' is not a number from 1 to 100000")
        try assertUsageError(["--children=x"], "--children: 'x' is not a number from 1 to 100000")
        try assertUsageError(["--threads", "257"], "--threads: '257' is not a number from 1 to 256")
        try assertUsageError(["--seed", "-1"], "--seed: '-1' is not a number from 0 to 18446744073709551615")
        try assertUsageError(["--redis", "nowhere"], "--redis: 'nowhere' is not HOST:PORT with a port from 1 to 65535")
        try assertUsageError(["--redis", "nowhere:0"], "--redis: 'nowhere:0' is not HOST:PORT with a port from 1 to 65535")
        try assertUsageError(["--redis", ":1"], "--redis: ':1' has no host")
        try assertUsageError(["--redis", "::1:1"], "--redis: '::1:1': write an IPv6 address in brackets, as [::1]:6379")
        try assertUsageError(["--json=1"], "--json takes no value")
    }

    private func assertUsageError(_ arguments: [String], _ message: String, line: UInt = #line) throws {
        let demo = try DemoProcess(arguments, line: line)
        XCTAssertEqual(demo.status, 64, line: line)
        XCTAssertEqual(demo.errors, "forkguard-demo: \(message); see --help\n", line: line)
        XCTAssertEqual(demo.output, "", line: line)
    }

    func testServerThatIsNotThere() throws {
        let port = try LoopbackPort.unused()
        let demo = try DemoProcess("--redis", "127.0.0.1:\(port)")
        XCTAssertEqual(demo.status, 69)
        XCTAssertEqual(demo.errors, "forkguard-demo: no Redis server at 127.0.0.1:\(port) (127.0.0.1: connect: Connection refused)\n")
        XCTAssertEqual(demo.output, "")
    }

    func testJSONHasItsShapeAndTheGuardedColumnIsPerfect() throws { try assertPerfect([]) }

    func testAgainstARealServer() throws {
        guard let server = ProcessInfo.processInfo.environment["FORKGUARD_TEST_REDIS"] else {
            throw XCTSkip("FORKGUARD_TEST_REDIS names no redis-server; Scripts/test starts one")
        }
        try assertPerfect(["--redis", server])
    }

    private func assertPerfect(_ arguments: [String]) throws {
        let demo = try DemoProcess(["--json", "--children", "40"] + arguments)
        XCTAssertEqual(demo.status, 0, demo.errors)
        XCTAssertEqual(demo.errors, "")
        XCTAssertEqual(demo.output.filter { $0 == "\n" }.count, 1)
        let columns = try JSONDecoder().decode([String: [String: Int]].self, from: Data(demo.output.utf8))
        XCTAssertEqual(Set(columns.keys), ["guarded", "unguarded"])
        let guarded = try XCTUnwrap(columns["guarded"])
        let unguarded = try XCTUnwrap(columns["unguarded"])
        let keys: Set = [
            "children", "ok", "hung", "crashed", "crosstalk", "parentRequests", "parentWrong", "forkMedianMicroseconds",
            "forkP99Microseconds",
        ]
        XCTAssertEqual(Set(guarded.keys), keys)
        XCTAssertEqual(Set(unguarded.keys), keys)
        for (key, value) in ["children": 40, "ok": 40, "hung": 0, "crashed": 0, "crosstalk": 0, "parentWrong": 0] {
            XCTAssertEqual(guarded[key], value, key)
        }
        XCTAssertGreaterThan(guarded["parentRequests"] ?? 0, 0)
        // The control: the same client fails when nobody guards it.
        XCTAssertLessThan(unguarded["ok"] ?? 40, 40)
    }

    func testTableHasBothColumns() throws {
        let demo = try DemoProcess("--children", "10", "--threads", "4")
        XCTAssertEqual(demo.status, 0, demo.errors)
        let lines = demo.output.split(separator: "\n")
        XCTAssertEqual(lines.count, 12, demo.output)
        XCTAssert(lines[0].hasSuffix("without"), demo.output)
        XCTAssertEqual(Set(lines[...10].map(\.count)).count, 1, "not aligned:\n\(demo.output)")
        XCTAssert(lines[11].hasPrefix("With ForkGuard every child got every answer"), demo.output)
    }
}
