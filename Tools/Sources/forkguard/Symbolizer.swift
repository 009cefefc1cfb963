internal import CInspect
internal import Glibc

/// What is at the addresses of one set of mapped files. Processes with the same files at the same addresses share one.
final class Symbolizer {
    let sum: UInt64
    private let objects: OpaquePointer
    private var known: [UInt64: AuditReport.Frame] = [:]

    init?(_ process: Int32, sum: UInt64) {
        guard let objects = inspect_objects_of(process) else { return nil }
        self.objects = objects
        self.sum = sum
    }

    deinit { inspect_objects_free(objects) }

    /// The calls of a stack of return addresses; without those of the audit library itself.
    func frames(returningTo addresses: [AuditEvent.Address]) -> [AuditReport.Frame] {
        frames(at: addresses.map { $0.value &- 1 })
    }

    func frames(at addresses: [UInt64]) -> [AuditReport.Frame] {
        let all = addresses.map(frame)
        // Its wrappers stand for the functions that they wrap, whose inner calls are no part of the program. Its other function calls a
        // thread's.
        let wrapper = all.indices.last { Self.isOurs(all[$0]) && all.indices.contains($0 + 1) && all[$0 + 1].function != "start_thread" }
        return all[((wrapper ?? -1) + 1)...].filter { !Self.isOurs($0) }
    }

    /// The variable at an address, with the bytes from its start.
    func variable(_ address: UInt64) -> String? {
        var place = inspect_place()
        inspect_place_of(objects, address, &place)
        let name = Self.readable(text(place.symbol))
        guard !name.isEmpty else { return nil }
        let object = text(place.object).split(separator: "/").last.map { " in \($0)" } ?? ""
        return (place.symbol_offset == 0 ? name : "\(name)+\(place.symbol_offset)") + object
    }

    func unwind(_ thread: inout inspect_thread, of process: Int32) -> [AuditReport.Frame] {
        var addresses = [UInt64](repeating: 0, count: INSPECT_FRAMES)
        let count = inspect_threads_unwind(objects, process, &thread, &addresses, addresses.count)
        var frames = frames(at: Array(addresses.prefix(count)))
        // What is nowhere, and called by nothing, is no call: a thread's first instructions have no caller.
        while frames.count > 1 && frames.last?.object == nil { frames.removeLast() }
        return frames
    }

    private func frame(_ address: UInt64) -> AuditReport.Frame {
        if let frame = known[address] { return frame }
        var place = inspect_place()
        inspect_place_of(objects, address, &place)
        let object = text(place.object)
        let function = Self.readable(text(place.symbol))
        let file = text(place.file)
        let frame = AuditReport.Frame(
            object: object.isEmpty ? nil : object,
            offset: object.isEmpty ? nil : place.object_offset,
            function: function.isEmpty ? nil : function,
            file: file.isEmpty ? nil : file,
            line: file.isEmpty ? nil : Int(place.line),
            address: object.isEmpty ? "0x" + String(address, radix: 16) : nil)
        known[address] = frame
        return frame
    }

    private static func isOurs(_ frame: AuditReport.Frame) -> Bool {
        frame.object?.split(separator: "/").last?.hasPrefix("libforkguard-audit.") ?? false
    }

    private static func readable(_ symbol: String) -> String {
        guard symbol.hasPrefix("$s") || symbol.hasPrefix("$S") else { return symbol }
        guard let name = swiftDemangle(symbol, symbol.utf8.count, nil, nil, 0) else { return symbol }
        defer { free(name) }
        return String(cString: name)
    }
}

/// The Swift runtime's, which has no header: a C string that the caller frees.
@_silgen_name("swift_demangle")
private func swiftDemangle(
    _ name: UnsafePointer<CChar>, _ length: Int, _ buffer: UnsafeMutablePointer<CChar>?, _ size: UnsafeMutablePointer<Int>?, _ flags: UInt32
) -> UnsafeMutablePointer<CChar>?
