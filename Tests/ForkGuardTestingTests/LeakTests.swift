import ForkGuardTesting
import XCTest

#if os(Linux)
    final class LeakTests: XCTestCase {
        private func descriptors() throws -> Int { try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count }

        /// The kit's, by their names: Dispatch keeps idle ones for some seconds.
        private func threads() throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")
                .compactMap { try? String(contentsOfFile: "/proc/self/task/\($0)/comm", encoding: .utf8) }
                .filter { $0.hasPrefix("fork-") }
        }

        private func mappings() throws -> Int {
            try String(contentsOfFile: "/proc/self/maps", encoding: .utf8).split(separator: "\n").filter {
                $0.contains("/dev/zero (deleted)")
            }.count
        }

        func testTwoHundredRunsLeaveNothingBehind() throws {
            func round(_ index: Int) throws {
                let method = ForkMethod.available[index % ForkMethod.available.count]
                let outcome = try ForkTesting.run(
                    method, from: index.isMultiple(of: 2) ? .fresh : .calling,
                    deadline: index % 50 == 49 ? .milliseconds(100) : .seconds(10),
                    while: [{ sleepMilliseconds(1) }]
                ) { context -> Int in
                    switch index % 50 {
                    case 10: raise(SIGKILL)
                    case 20: _ = libcFork()
                    case 49: while true { pause() }
                    default: break
                    }
                    return index
                }
                if ![10, 20, 49].contains(index % 50) { XCTAssertEqual(outcome.value, index, "\(outcome)") }
            }
            try round(49)
            try round(1)
            let before = try (descriptors: descriptors(), mappings: mappings())
            for index in 0..<200 { try round(index) }
            for missing in ForkMethod.allCases where !missing.isAvailable { _ = try ForkTesting.run(missing) { _ in 1 } }
            XCTAssertEqual(try descriptors(), before.descriptors)
            // A thread that was joined is still listed until the kernel has come round to it.
            for _ in 0..<500 where try !threads().isEmpty { sleepMilliseconds(10) }
            XCTAssertEqual(try threads(), [])
            XCTAssertEqual(try mappings(), before.mappings)
            XCTAssertFalse(hasChildren(), "zombies")
        }
    }
#endif
