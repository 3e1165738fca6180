"""The sections of `ens report`: each turns runs into the plain values that its part of the page shows."""
