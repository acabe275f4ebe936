"""Federated training: parties train one XGBoost model together, and each keeps its rows.

XGBoost's federated communicator adds up the parties' histograms on a coordinator; rows stay where they are, sealed
under each party's own key. Traffic is mutual TLS under an authority whose key the broker releases to attested workloads
only. Histograms and summaries of a feature's values do cross that traffic: the coordinator and the parties are attested
for this reason, and the model is made for all of them.
"""
