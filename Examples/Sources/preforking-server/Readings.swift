import Dispatch

/// A stream that `read` feeds, which is called whenever the descriptor can be read. When the stream ends, because `read` has finished it,
/// or its task is cancelled, or nobody has it any more, `read` is let go of, with what it holds. Until then the number must stay open, so
/// `read` holds whose it is.
func readings<Element: Sendable>(
    of number: Int32, as: Element.Type, _ read: @escaping @Sendable (AsyncStream<Element>.Continuation) -> Void
) -> AsyncStream<Element> {
    let (stream, continuation) = AsyncStream<Element>.makeStream(bufferingPolicy: .bufferingOldest(256))
    // Unsafe, as Dispatch does not say that any thread may cancel a source; libdispatch does.
    nonisolated(unsafe) let source = DispatchSource.makeReadSource(fileDescriptor: number, queue: .global())
    source.setEventHandler { read(continuation) }
    continuation.onTermination = { _ in source.cancel() }
    source.activate()
    return stream
}
