import Foundation
import TensorRuntime
import TestSupport
import Testing
import Transport

extension TransportSuite.EntropicTransportTests {

}
