/// What limited the audit.
struct AuditNotes {
    var processes = 0
    var unreadable = 0
    var strangers = 0
    private var refused = false
    private var unsupported = false

    mutating func note(_ copies: ThreadCopies) {
        refused = refused || copies.wereRefused
        unsupported = unsupported || copies.areUnsupported
    }

    var lines: [String] {
        var lines: [String] = []
        if processes == 0 {
            lines.append("No process of CMD's has reported: the audit library was not loaded into it, so nothing is known.")
        }
        if refused {
            lines.append(
                """
                ptrace is not permitted here (see /proc/sys/kernel/yama/ptrace_scope, the container's capabilities): the stacks of \
                other threads are what the kernel says of their system calls only, and children that hang without waiting for a known \
                lock are not recognised.
                """)
        }
        if unsupported {
            lines.append("Stacks of other threads are read on x86-64 only: here they are what the kernel says of their system calls.")
        }
        if strangers > 0 {
            lines.append(
                "\(strangers) messages came from processes with process ids of their own (another pid namespace), and were left out.")
        }
        if unreadable > 0 { lines.append("\(unreadable) messages of the audit library could not be read.") }
        return lines
    }
}
