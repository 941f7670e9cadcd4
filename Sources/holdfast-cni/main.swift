import CLinux
import CNI

// A delegate that ends before it has read its input must not end this process with it.
ignore_signal(SIGPIPE)
// Whoever ignores it has the kernel forget how a child ended.
restore_signal(SIGCHLD)
let host = SystemHost()
let (output, status) = Plugin(host: host, environment: host.environment).run(input: host.input())
// A result that nobody gets is none: the runtime must not take the interface for one that it knows.
if let output, !host.print(output) { exit(1) }
exit(status)
