internal import CForkGuardTesting

/// What the child printed: the beginning and the end, at most.
struct CapturedOutput {
    private static let most = 32 * 1024
    private var beginning: [UInt8] = []
    private var end: [UInt8] = []
    private var dropped = 0

    /// Takes over what is in the pipe now. It is bounded, so that a child that prints for ever does not keep the runner from its deadline.
    mutating func drain(_ channel: Channel, stream: Int32) {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 65536) { buffer in
            guard let start = buffer.baseAddress else { return }
            for _ in 0..<64 {
                let got = fgt_channel_output(channel.page, stream, start, buffer.count)
                if got == 0 { return }
                append(UnsafeBufferPointer(start: start, count: got))
            }
        }
    }

    private mutating func append(_ bytes: UnsafeBufferPointer<UInt8>) {
        let room = Self.most - beginning.count
        beginning += bytes.prefix(room)
        end += bytes.dropFirst(room)
        if end.count > Self.most {
            dropped += end.count - Self.most
            end.removeFirst(end.count - Self.most)
        }
    }

    var text: String {
        let gap = dropped > 0 ? Array("\n[... \(dropped) bytes ...]\n".utf8) : []
        return String(decoding: beginning + gap + end, as: UTF8.self)
    }
}
