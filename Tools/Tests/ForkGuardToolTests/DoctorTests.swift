internal import Foundation
internal import XCTest

final class DoctorTests: XCTestCase {
    func testEachLineHasAConsequence() throws {
        let tool = try ToolProcess(["doctor"])
        XCTAssertEqual(tool.status, 0)
        XCTAssertEqual(tool.errors, "")
        for name in [
            "kernel", "libc", "swift", "wipe-on-fork page", "membarrier", "atfork handlers", "pidfd", "ptrace", "cure process-locks",
            "libforkguard-preload.so", "libforkguard-audit.so",
        ] {
            XCTAssert(tool.output.contains(" \(name) "), "\(name) is not in\n\(tool.output)")
        }
    }

    func testSaysWhatIsMissingAndWhatFollows() throws {
        let tool = try ToolProcess(["doctor"], ["FORKGUARD_LIBRARY_PATH": "/nowhere", "FORKGUARD_RUNTIME": "off", "PATH": "/nowhere"])
        XCTAssertEqual(tool.status, 0)
        let missing = tool.output.split(separator: "\n").filter { $0.hasPrefix("missing ") }
        for words in ["swift", "cure swift-runtime", "`forkguard run` does not work", "`forkguard audit` does not work"] {
            XCTAssert(missing.contains { $0.contains(words) }, "\(words) is not missing in\n\(tool.output)")
        }
    }

    func testJSONSaysTheSame() throws {
        struct Document: Decodable {
            let lines: [Line]
            struct Line: Decodable {
                let name: String
                let isThere: Bool
                let found: String
                let consequence: String
            }
        }
        let tool = try ToolProcess(["doctor", "--json"])
        let document = try JSONDecoder().decode(Document.self, from: Data(tool.output.utf8))
        let text = try ToolProcess(["doctor"]).output
        XCTAssertEqual(document.lines.count, text.split(separator: "\n").count)
        for line in document.lines {
            XCTAssert(text.contains(line.name), line.name)
            XCTAssertFalse(line.found.isEmpty, line.name)
            XCTAssertFalse(line.consequence.isEmpty, line.name)
        }
    }
}
