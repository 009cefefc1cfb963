import Foundation
import XCTest

/// Real programs with the library in them; what each does is in `Tests/forkguard-preload-probe/programs`.
final class PreloadProgramTests: XCTestCase {
    private func run(_ program: String, guarded: Bool = true) throws -> PreloadRun {
        let library = try PreloadRun.library()
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("forkguard-preload-probe/programs")
        let run = try PreloadRun.run(
            URL(fileURLWithPath: "/bin/bash"), [script.path, program, guarded ? library.path : ""], preload: [],
            environment: ["FORKGUARD_TEST_PROBE": try PreloadRun.built("").path])
        print(run.output, terminator: "")
        return run
    }

    func test_redisSavesInTheBackgroundUnderLoad() throws {
        let run = try run("redis")
        XCTAssertEqual(run.output, "redis: 20 saves ok, 1000 of 1000 values right\n", run.error)
    }

    func test_postgreSQLForksForEachConnection() throws {
        let run = try run("postgres")
        XCTAssertEqual(run.status, 0, run.error)
        XCTAssert(run.output.hasSuffix(" transactions and connections, the sums agree\n"), run.output)
    }

    func test_nginxReloadsUnderLoad() throws {
        let run = try run("nginx")
        XCTAssertEqual(run.status, 0, run.error)
        XCTAssert(run.output.hasPrefix("nginx: 10 reloads, "), run.output)
        XCTAssert(run.output.hasSuffix(" requests, none failed\n"), run.output)
    }

    func test_pythonForksBesideThreadsOfACLibrary() throws {
        XCTAssertEqual(try run("python").output, "python: 200 ok, 0 hung, 0 wrong\n")
        XCTAssertEqual(try run("python", guarded: false).output, "python: 0 ok, 3 hung, 0 wrong\n")
    }
}
