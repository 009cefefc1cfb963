internal import CInspect

/// Registers and stacks of threads as they were at one moment. The threads run on.
final class ThreadCopies {
    private var threads: [inspect_thread]
    private let process: Int32

    /// Takes less than a second.
    init(of ids: [Int32], in process: Int32) {
        self.process = process
        threads = ids.prefix(512).map { id in
            var thread = inspect_thread()
            thread.id = id
            return thread
        }
        inspect_threads_copy(process, &threads, threads.count, 700_000_000)
    }

    deinit { inspect_threads_free(&threads, threads.count) }

    var indices: Range<Int> { threads.indices }

    /// Empty where there is no copy.
    func frames(_ index: Int, _ symbolizer: Symbolizer) -> [AuditReport.Frame] {
        guard threads.indices.contains(index) else { return [] }
        return symbolizer.unwind(&threads[index], of: process)
    }

    /// The system call that it was in when it was copied, -1 when it ran; nil where that is not known.
    func call(_ index: Int) -> Int64? {
        threads.indices.contains(index) && threads[index].has_call ? threads[index].call : nil
    }

    var wereRefused: Bool { threads.contains { $0.outcome == Int32(INSPECT_REFUSED.rawValue) } }
    var areUnsupported: Bool { threads.contains { $0.outcome == Int32(INSPECT_UNSUPPORTED.rawValue) } }
}
