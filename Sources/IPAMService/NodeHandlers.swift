import CMessages
import IPAMAPI
import IPAMModel
import Ledger
import RPC

/// The service holdfast.ipam.v1.Nodes.
extension Writer {
    func nodesService(_ gate: Gate) -> RPCService {
        var service = unsafe RPCService(cmessages_holdfast_ipam_v1_nodes())
        unsafe service.unary(
            admit: gate.admit([.agent, .operator]),
            decode: { (message: UnsafePointer<Wire.RenewCopiesRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe RenewCopiesRequest(message.pointee) }
            },
            encode: { (copies: [RenewedCopy], arena) in unsafe copies.wire(in: arena) },
            complete: { request, caller, reply in
                self.submit(.renewCopies(request), by: caller) { result in
                    switch result {
                    case .success(.copies(let copies)): reply.succeed(copies)
                    case .success: reply.fail(RPCStatus(.internalError, "a renewal without copies"))
                    case .failure(let error): reply.fail(error.status)
                    }
                }
            })
        return service
    }
}
