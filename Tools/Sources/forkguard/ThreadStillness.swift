internal import CInspect
internal import Glibc

/// Whether all threads of a process wait for each other.
enum ThreadStillness {
    struct Wait: Equatable {
        let place: [UInt64]
        let switches: UInt64
    }

    /// One for each thread, equal as long as it is in the same wait; empty when one of them could go on by itself, or cannot be looked at.
    static func threads(of process: Int32) -> [Wait] {
        var threads: [Wait] = []
        for thread in ids(of: process) {
            var call: Int64 = 0
            var arguments = [UInt64](repeating: 0, count: 6)
            var stackPointer: UInt64 = 0
            var programCounter: UInt64 = 0
            guard inspect_thread_call(process, thread, &call, &arguments, &stackPointer, &programCounter),
                inspect_waits_for_ever(call, arguments)
            else { return [] }
            threads.append(
                Wait(place: [UInt64(thread), arguments[0], stackPointer], switches: inspect_thread_switches(process, thread)))
        }
        return threads
    }

    static func ids(of process: Int32) -> [Int32] {
        guard let directory = opendir("/proc/\(process)/task") else { return [] }
        defer { closedir(directory) }
        var ids: [Int32] = []
        while let entry = readdir(directory) {
            if let id = Int32(text(entry.pointee.d_name)) { ids.append(id) }
        }
        return ids.sorted()
    }
}
