internal import CForkGuardTesting

/// The page and the report that runner and child share (channel.c).
// Sendable because the pointer never changes, and what it points to is shared between processes to begin with: words that both write
// are atomic, the report is written by pwrite at offsets that are handed out atomically, and the rest is set before the fork.
final class Channel: @unchecked Sendable {
    let page: OpaquePointer

    /// `capturing` the child's output takes a descriptor table of its own.
    init(capturing: Bool) throws {
        guard let page = fgt_channel_create(!capturing) else {
            throw ForkTestingError.systemCallFailed("the trial's channel", errno: fgt_errno())
        }
        self.page = page
    }

    deinit { fgt_channel_destroy(page) }

    var runner: Int32 { fgt_channel_runner(page) }
    var hasEscaped: Bool { fgt_channel_escaped(page) > 0 }

    /// A piece of the report.
    enum Tag: UInt8 {
        case value = 1
        case failure = 2
        case note = 3
    }

    // ---- in the child ----

    func report(_ tag: Tag, _ text: String) {
        var text = text
        text.withUTF8 { _ = fgt_channel_report(page, tag.rawValue, $0.baseAddress, $0.count) }
    }

    /// 0 or errno.
    func report(_ tag: Tag, _ bytes: UnsafeRawBufferPointer) -> Int32 {
        fgt_channel_report(page, tag.rawValue, bytes.baseAddress, bytes.count)
    }

    // ---- in the runner ----

    /// The pieces that arrived whole, in the order of their beginning.
    func pieces() -> [(tag: Tag, bytes: [UInt8])] {
        let total = fgt_channel_length(page)
        var offset: UInt64 = 0
        var pieces: [(tag: Tag, bytes: [UInt8])] = []
        while offset + 9 <= total {
            let header = read(8, at: offset)
            let length = header.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            guard header.count == 8, length > 0, offset + 8 + length <= total else { break }
            let body = read(Int(length), at: offset + 8)
            guard body.count == Int(length), let tag = Tag(rawValue: body[0]) else { break }
            pieces.append((tag, Array(body.dropFirst())))
            offset += 8 + length
        }
        return pieces
    }

    private func read(_ count: Int, at offset: UInt64) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, used in
            while used < count, let start = buffer.baseAddress {
                let got = fgt_channel_read(page, start + used, count - used, offset + UInt64(used))
                if got <= 0 { return }
                used += Int(got)
            }
        }
    }
}
