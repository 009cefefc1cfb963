import Foundation
import XCTest

/// The descriptors and threads that this process has.
struct Belongings {
    /// What each number stands for.
    private let descriptors: [String: String]
    private let threads: [String]

    static var now: Belongings {
        let files = FileManager.default
        let numbers = (try? files.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
        // Without the one that lists them, and without the timers and events of dispatch, which XCTest begins to use some time.
        let known = numbers.compactMap { number in
            (try? files.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(number)")).map { (number, $0) }
        }.filter { !$0.1.hasPrefix("anon_inode:") }
        return Belongings(
            descriptors: Dictionary(uniqueKeysWithValues: known),
            threads: (try? files.contentsOfDirectory(atPath: "/proc/self/task")) ?? [])
    }

    /// Fails the test unless there are soon no more than these: a thread that was joined may be listed for a moment.
    func expectNoMore(file: StaticString = #filePath, line: UInt = #line) {
        let deadline = ContinuousClock.now + .seconds(5)
        var now = Belongings.now
        while now.descriptors.count > descriptors.count || now.threads.count > threads.count {
            if ContinuousClock.now >= deadline {
                let new = now.descriptors.filter { descriptors[$0.key] != $0.value }
                return XCTFail("\(now.threads.count) threads, before \(threads.count); new descriptors: \(new)", file: file, line: line)
            }
            sched_yield()
            now = .now
        }
    }
}
