"""Everything a verifier needs besides the quote, in the form of dcap-qvl's QuoteCollateralV3 JSON."""

import json
from dataclasses import asdict, dataclass

from strongroom.formats.pck import PckExtension
from strongroom.platforms.simulated import pki as simulated_pki
from strongroom.platforms.simulated import tcb as simulated_tcb


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralParts:
    """The nine parts; a test replaces one with `dataclasses.replace` to get a deliberately wrong set.

    Args:
        pck_crl_issuer_chain: PEM, PCK CA then root.
        root_ca_crl: DER.
        pck_crl: DER.
        tcb_info_issuer_chain: PEM, TCB signing certificate then root.
        tcb_info: Exact signed text.
        tcb_info_signature: r then s, 64 bytes.
        qe_identity_issuer_chain: PEM, TCB signing certificate then root.
        qe_identity: Exact signed text.
        qe_identity_signature: r then s, 64 bytes.
    """

    pck_crl_issuer_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: bytes
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: bytes

    def to_json(self) -> str:
        """QuoteCollateralV3 JSON: chains and documents as text, lists and signatures in hex."""
        values = {name: part.hex() if isinstance(part, bytes) else part for name, part in asdict(self).items()}
        return json.dumps(values, indent=1)


def build_collateral(
    pki: simulated_pki.Pki,
    platform: PckExtension,
    tcb: simulated_tcb.TcbFacts,
    validity: simulated_pki.Validity,
) -> CollateralParts:
    """Consistent collateral for one machine.

    Args:
        pki: The machine's certified keys.
        platform: What the machine is.
        tcb: How it is judged.
        validity: Of both documents and both lists.
    """
    signers = simulated_pki.chain_pem(pki.tcb_signer, pki.root)
    tcb_info = simulated_tcb.document_text(simulated_tcb.tcb_info(platform, tcb, validity))
    qe_identity = simulated_tcb.document_text(simulated_tcb.qe_identity(tcb, validity))
    return CollateralParts(
        pck_crl_issuer_chain=simulated_pki.chain_pem(pki.pck_ca, pki.root),
        root_ca_crl=simulated_pki.create_crl(pki.root, validity),
        pck_crl=simulated_pki.create_crl(pki.pck_ca, validity),
        tcb_info_issuer_chain=signers,
        tcb_info=tcb_info,
        tcb_info_signature=simulated_tcb.sign_document(tcb_info, pki.tcb_signer.private_key),
        qe_identity_issuer_chain=signers,
        qe_identity=qe_identity,
        qe_identity_signature=simulated_tcb.sign_document(qe_identity, pki.tcb_signer.private_key),
    )
