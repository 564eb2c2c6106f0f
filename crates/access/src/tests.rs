mod decisions;
mod handshakes;
mod instances;
mod precedence;
mod table_text;
mod trust_material;
mod v_rules;
