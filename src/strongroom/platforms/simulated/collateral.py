"""Everything a verifier needs besides the quote, signed by the simulated machine's own keys."""

from strongroom.attestation.collateral import Collateral
from strongroom.formats.pck import PckExtension
from strongroom.platforms.simulated import pki as simulated_pki
from strongroom.platforms.simulated import tcb as simulated_tcb


def build_collateral(
    pki: simulated_pki.Pki,
    platform: PckExtension,
    tcb: simulated_tcb.TcbFacts,
    validity: simulated_pki.Validity,
) -> Collateral:
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
    return Collateral(
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
