internal import Glibc

/// The part of an executable's header that tells which ld.so, if any, starts it.
struct ELFHeader {
    /// Nil where a library of this command's own kind can be preloaded.
    let unreachable: Program.Unreachable?

    init(_ descriptor: Int32) {
        unreachable = Self.read(descriptor)
    }

    private static func read(_ descriptor: Int32) -> Program.Unreachable? {
        let broken = Program.Unreachable.ignoresPreload("its ELF header is broken")
        guard let own = bytes(of: open("/proc/self/exe", O_RDONLY | O_CLOEXEC), closing: true, count: 20, at: 0),
            let header = bytes(of: descriptor, count: 64, at: 0)
        else { return broken }
        // Class, byte order; machine.
        guard header[4...5].elementsEqual(own[4...5]), header[18...19].elementsEqual(own[18...19]) else {
            return .refusesPreload("it is for another kind of processor than the libraries are")
        }
        // This command exists for 64-bit processors of this byte order only.
        let start: UInt64 = number(header, 32)
        let size: UInt16 = number(header, 54)
        let count: UInt16 = number(header, 56)
        guard size >= 56 else { return broken }
        for index in 0..<UInt64(count) {
            guard let entry = bytes(of: descriptor, count: 56, at: start &+ index &* UInt64(size)) else { return broken }
            let type: UInt32 = number(entry, 0)
            guard type == UInt32(PT_INTERP) else { continue }
            let length: UInt64 = number(entry, 32)
            guard length < 4096, let name = bytes(of: descriptor, count: Int(length), at: number(entry, 8)) else { return broken }
            let interpreter = String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
            if interpreter.contains("ld-musl") { return .refusesPreload("it is linked with musl, and the libraries with glibc") }
            return nil
        }
        return .ignoresPreload("it is linked statically")
    }

    private static func bytes(of descriptor: Int32, closing: Bool = false, count: Int, at offset: UInt64) -> [UInt8]? {
        guard descriptor >= 0 else { return nil }
        defer { if closing { close(descriptor) } }
        guard let offset = off_t(exactly: offset) else { return nil }
        var bytes = [UInt8](repeating: 0, count: count)
        return pread(descriptor, &bytes, count, offset) == count ? bytes : nil
    }

    private static func number<Number: FixedWidthInteger>(_ bytes: [UInt8], _ offset: Int) -> Number {
        bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Number.self) }
    }
}
