"""Run records in, tables, figures and a report out.

`results.record.run_record` is standard library only, so that training code can write records with
nothing else installed; the other modules need the analysis libraries (pandas, matplotlib).
"""
