import Foundation
import XCTest

/// ForkGuard and its cures in a library that Python loads and forks around.
final class HostedTests: XCTestCase {
    private struct Counts: Decodable {
        let forks, ok, hung, crashed, wrong: Int
        let insideLazyGlobal, insideLock: Int
        let types, turns, lazyGlobals, batches: UInt64
        let support: [String]
        let gdb: String
    }

    func testChildrenOfPythonAreWhole() throws {
        try childrenAreWhole(libraries: [library()], forks: 200)
    }

    /// Each has a copy of ForkGuard and of its cures inside, and sees nothing of the other's.
    func testChildrenOfTwoLibrariesAreWhole() throws {
        let second = FileManager.default.temporaryDirectory.appendingPathComponent(
            "libHostedRuntime-\(ProcessInfo.processInfo.processIdentifier).so")
        try FileManager.default.copyItem(at: library(), to: second)
        defer { try? FileManager.default.removeItem(at: second) }
        try childrenAreWhole(libraries: [library(), second], forks: 60)
    }

    /// One copy of ForkGuard is the daemon's own, one is inside the library that it opens.
    func testChildrenOfALinkedDaemonAreWhole() throws {
        let process = Process()
        process.executableURL = try built("linked-daemon")
        process.arguments = [try library().path, "60"]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        print("\(#function): \(text)")
        XCTAssertEqual(process.terminationStatus, 0, text)
        XCTAssert(text.hasPrefix("60 of 60"), text)
    }

    private func childrenAreWhole(libraries: [URL], forks: Int, name: String = #function) throws {
        let counts = try forkAround(libraries, forks: forks, stopAfter: 3, environment: [:], name: name)
        XCTAssertEqual(counts.ok, forks, "hung \(counts.hung), crashed \(counts.crashed), wrong \(counts.wrong)\n\(counts.gdb)")
        for cure in ["swift-runtime", "thread-ids", "c-library", "process-locks", "dispatch", "concurrency"] {
            XCTAssert(counts.support.contains { $0.hasPrefix("\(cure): on") }, "\(counts.support)")
        }
        // The hammers were inside.
        XCTAssertGreaterThan(counts.insideLazyGlobal, forks / 2)
        XCTAssertGreaterThan(counts.insideLock, forks / 4)
        XCTAssertGreaterThan(counts.types, 1000)
        XCTAssertGreaterThan(counts.batches, UInt64(forks))
    }

    func test_control_withoutTheCuresTheyHang() throws {
        let counts = try forkAround([library()], forks: 200, stopAfter: 3, environment: ["FORKGUARD_RUNTIME": "off"])
        XCTAssert(counts.hung + counts.crashed > 0, "the control did not fail")
        XCTAssert(counts.support.allSatisfy { $0.contains(": off") }, "\(counts.support)")
    }

    private func forkAround(
        _ libraries: [URL], forks: Int, stopAfter: Int, environment: [String: String], name: String = #function
    ) throws -> Counts {
        let process = Process()
        process.executableURL = try python()
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("fork_around.py")
        process.arguments = [script.path, libraries.map(\.path).joined(separator: ":"), "\(forks)", "\(stopAfter)"]
        // What crashes in the control shall do it quickly.
        let own = ProcessInfo.processInfo.environment.filter { $0.key != "FORKGUARD_RUNTIME" }
        process.environment = own.merging(["SWIFT_BACKTRACE": "enable=no"]) { $1 }.merging(environment) { $1 }
        let output = Pipe()
        process.standardOutput = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        XCTAssertEqual(process.terminationReason, .exit)
        XCTAssertEqual(process.terminationStatus, 0)
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let counts = try decoder.decode(Counts.self, from: text)
        print(
            "\(name): forks \(counts.forks), ok \(counts.ok), hung \(counts.hung), crashed \(counts.crashed), wrong \(counts.wrong); "
                + "inside a lazy global \(counts.insideLazyGlobal), a lock \(counts.insideLock); \(counts.types) types, "
                + "\(counts.turns) turns, \(counts.lazyGlobals) lazy globals, \(counts.batches) batches of tasks")
        if !counts.gdb.isEmpty { print(counts.gdb) }
        return counts
    }

    private func python() throws -> URL {
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        let candidates = path.split(separator: ":").map { URL(fileURLWithPath: String($0)).appendingPathComponent("python3") }
        if let found = candidates.first(where: { FileManager.default.isExecutableFile(atPath: $0.path) }) { return found }
        let missing = "there is no python3"
        if ProcessInfo.processInfo.environment["FORKGUARD_NO_SKIPS"] != nil { XCTFail(missing) }
        throw XCTSkip(missing)
    }

    private func library() throws -> URL { try built("libHostedRuntime.so") }

    /// It is built into the directory that the test bundle is in.
    private func built(_ name: String) throws -> URL {
        let bundle = Bundle.main.executableURL ?? Bundle.main.bundleURL
        let file = bundle.deletingLastPathComponent().appendingPathComponent(name)
        guard FileManager.default.fileExists(atPath: file.path) else {
            throw CocoaError(.fileNoSuchFile, userInfo: [NSFilePathErrorKey: file.path])
        }
        return file
    }
}
