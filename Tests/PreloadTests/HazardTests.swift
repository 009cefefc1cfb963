import XCTest

/// Forks of a C program that knows nothing of ForkGuard, beside threads that never leave its locks alone; each with its control.
final class PreloadHazardTests: XCTestCase {
    private func expect(_ scenario: String, forks: Int, beside: Int = 0, file: StaticString = #filePath, line: UInt = #line) throws {
        for form in ["dynamic", "fixed"] {
            let run = try PreloadRun.probe(scenario, form: form)
            print("\(form),", run.output, terminator: "")
            XCTAssertEqual(run.status, 0, run.output + run.error, file: file, line: line)
            XCTAssertEqual(Array(run.counts.prefix(3)), [forks, 0, 0], run.output + run.error, file: file, line: line)
            XCTAssertGreaterThanOrEqual(run.counts.last ?? 0, beside, "forks beside a holder", file: file, line: line)
        }
    }

    private func expectHung(_ scenario: String, file: StaticString = #filePath, line: UInt = #line) throws {
        let control = try PreloadRun.probe(scenario, guarded: false)
        print("control,", control.output, terminator: "")
        XCTAssertEqual(control.counts.dropFirst().first, 3, "the control: \(control.output)\(control.error)", file: file, line: line)
    }

    func test_mutexesOfEveryKind() throws {
        try expect("mutexes", forks: 300, beside: 100)
        try expectHung("mutexes")
    }

    func test_recursiveMutexes() throws {
        try expect("recursive", forks: 300, beside: 100)
        try expectHung("recursive")
    }

    func test_conditions() throws {
        try expect("conditions", forks: 500, beside: 10)
        try expectHung("conditions")
    }

    func test_readWriteLocks() throws {
        try expect("rwlocks", forks: 300, beside: 50)
        try expectHung("rwlocks")
    }

    func test_whatTheForkingThreadHasStaysItsOwn() throws {
        try expect("survivor", forks: 100)
    }

    func test_handlersThatLockAndMakeAnew() throws {
        try expect("handlers", forks: 200, beside: 50)
        try expectHung("handlers")
    }

    func test_forkpty() throws {
        try expect("forkpty", forks: 100, beside: 20)
        try expectHung("forkpty")
    }

    func test_daemon() throws {
        try expect("daemon", forks: 100)
        let control = try PreloadRun.probe("daemon", guarded: false)
        print("control,", control.output, terminator: "")
        XCTAssertEqual(control.output, "daemon: hung\n")
    }

    func test_anObjectThatIsOpenedLater() throws {
        let environment = ["FORKGUARD_TEST_OBJECT": try PreloadRun.built("libholder.so").path]
        let run = try PreloadRun.probe("object", environment: environment)
        print(run.output, terminator: "")
        XCTAssertEqual(Array(run.counts.prefix(3)), [200, 0, 0], run.error)
        let control = try PreloadRun.probe("object", guarded: false, environment: environment)
        XCTAssertEqual(control.counts.dropFirst().first, 3, control.output)
    }
}
