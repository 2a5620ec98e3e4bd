"""Small files in the forms in which publishers of traces offer theirs. All numbers are made up."""

ELECTRICITY_MAPS_OLD = """\
Datetime (UTC),Country,Zone Name,Zone Id,Carbon Intensity gCO₂eq/kWh (direct),Carbon Intensity gCO₂eq/kWh (LCA),\
Low Carbon Percentage,Renewable Percentage,Data Source,Data Estimated,Data Estimation Method
2023-01-01 00:00:00,Nowhere,Nowhere,XX,100.5,150.25,70.1,55.2,example.org,false,
2023-01-01 01:00:00,Nowhere,Nowhere,XX,90.5,140.75,72.0,57.0,example.org,true,MADE_UP
2023-01-01 02:00:00,Nowhere,Nowhere,XX,210,260,40,31,example.org,false,
"""
ELECTRICITY_MAPS_NEW = """\
Datetime (UTC),Country,Zone name,Zone id,Carbon intensity gCO₂eq/kWh (direct),Carbon intensity gCO₂eq/kWh (Life cycle),\
Carbon-free energy percentage (CFE%),Renewable energy percentage (RE%),Data source,Data estimated,Data estimation method
2024-01-01 00:00:00,Nowhere,Nowhere,XX,100.5,150.25,70.1,55.2,example.org,false,
2024-01-01 01:00:00,Nowhere,Nowhere,XX,90.5,140.75,72.0,57.0,example.org,true,MADE_UP
2024-01-01 02:00:00,Nowhere,Nowhere,XX,210,260,40,31,example.org,false,
"""
ELECTRICITY_MAPS_JSON = """\
{"zone": "XX", "history": [
  {"zone": "XX", "carbonIntensity": 150, "datetime": "2024-01-01T00:00:00.000Z", "isEstimated": false},
  {"zone": "XX", "carbonIntensity": null, "datetime": "2024-01-01T01:00:00.000Z", "isEstimated": false},
  {"zone": "XX", "carbonIntensity": 260, "datetime": "2024-01-01T02:00:00.000Z", "isEstimated": true}]}
"""
WATTTIME_JSON = """\
{"data": [{"point_time": "2024-03-01T00:00:00+00:00", "value": 1000.0},
          {"point_time": "2024-03-01T00:05:00+00:00", "value": 500},
          {"point_time": "2024-03-01T00:10:00+00:00", "value": 0.0}],
 "meta": {"region": "XX_NORTH", "signal_type": "co2_moer", "units": "lbs_co2_per_mwh",
          "data_point_period_seconds": 300, "model": {"date": "2023-03-01"}, "warnings": []}}
"""
WATTTIME_V2_JSON = """\
[{"point_time": "2024-03-01T00:10:00.000Z", "value": 0.0, "frequency": 300, "ba": "XX", "datatype": "MOER"},
 {"point_time": "2024-03-01T00:05:00.000Z", "value": 500, "frequency": 300, "ba": "XX", "datatype": "MOER"},
 {"point_time": "2024-03-01T00:00:00.000Z", "value": 1000, "frequency": 300, "ba": "XX", "datatype": "MOER"}]
"""
WATTTIME_CSV = """\
point_time,value
2024-03-01 00:00:00+00:00,1000.0
2024-03-01 00:05:00+00:00,500.0
2024-03-01 00:10:00+00:00,0.0
"""
WATTTIME_MOER_CSV = """\
timestamp,MOER,MOER version,frequency
2024-03-01T00:00:00+00:00,1000,3.2,300
2024-03-01T00:05:00+00:00,500,3.2,300
2024-03-01T00:10:00+00:00,0,3.2,300
"""
ENTSOE_PRICE_OLD = """\
"MTU (CET/CEST)","Day-ahead Price [EUR/MWh]","Currency","BZN|XX"
"27.10.2024 01:00 - 27.10.2024 02:00","50.10","EUR",""
"27.10.2024 02:00 - 27.10.2024 02:00","-5","EUR",""
"27.10.2024 02:00 - 27.10.2024 03:00","0.00","EUR",""
"27.10.2024 03:00 - 27.10.2024 04:00","20.5","EUR",""
"27.10.2024 04:00 - 27.10.2024 05:00","-","",""
"27.10.2024 05:00 - 27.10.2024 06:00","","",""
"""
ENTSOE_PRICE_NEW = """\
"MTU (UTC)","Area","Sequence","Day-ahead Price (EUR/MWh)","Intraday Period (UTC)","Intraday Price (EUR/MWh)"
"01/03/2025 00:00:00 - 01/03/2025 01:00:00","BZN|XX","Sequence Sequence 1","50.10","",""
"01/03/2025 00:00:00 - 01/03/2025 00:15:00","BZN|XX","Sequence Sequence 2","48","",""
"01/03/2025 00:15:00 - 01/03/2025 00:30:00","BZN|XX","Sequence Sequence 2","52","",""
"01/03/2025 00:30:00 - 01/03/2025 00:45:00","BZN|XX","Sequence Sequence 2","54","",""
"01/03/2025 01:00:00 - 01/03/2025 02:00:00","BZN|XX","Sequence Sequence 1","-5.00","",""
"01/03/2025 02:00:00 - 01/03/2025 03:00:00","BZN|XX","Sequence Sequence 1","20.5","",""
"01/03/2025 03:00:00 - 01/03/2025 04:00:00","BZN|XX","Sequence Sequence 1","","",""
"""
ENTSOE_TWO_AREAS = """\
"MTU (UTC)","Area","Sequence","Day-ahead Price (EUR/MWh)"
"01/03/2025 00:00:00 - 01/03/2025 01:00:00","BZN|XX","Without Sequence","50"
"01/03/2025 01:00:00 - 01/03/2025 02:00:00","BZN|XX","Without Sequence","60"
"01/03/2025 00:00:00 - 01/03/2025 01:00:00","BZN|YY","Without Sequence","5"
"01/03/2025 01:00:00 - 01/03/2025 02:00:00","BZN|YY","Without Sequence","6"
"""
# 100 MW of gas, 200 of wind on land, 100 of nuclear power, 100 of waste, which has no median; storage counts in no row.
# (100 · 490 + 200 · 11 + 100 · 12) / 400 = 131 g/kWh; 300 MW of gas and no wind: (300 · 490 + 100 · 12) / 400 = 370.5.
ENTSOE_GENERATION_OLD = """\
"Area","MTU","Fossil Gas  - Actual Aggregated [MW]","Fossil Oil shale  - Actual Aggregated [MW]",\
"Hydro Pumped Storage  - Actual Aggregated [MW]","Hydro Pumped Storage  - Actual Consumption [MW]",\
"Nuclear  - Actual Aggregated [MW]","Waste  - Actual Aggregated [MW]","Wind Onshore  - Actual Aggregated [MW]"
"CTY|XX","01.03.2024 00:00 - 01.03.2024 01:00 (UTC)","100","n/e","50","-","100","100","200"
"CTY|XX","01.03.2024 01:00 - 01.03.2024 02:00 (UTC)","300","n/e","0","70","100","100","0"
"CTY|XX","01.03.2024 02:00 - 01.03.2024 03:00 (UTC)","300","n/e","0","70","-","100","0"
"CTY|XX","01.03.2024 03:00 - 01.03.2024 04:00 (UTC)","100","n/e","0","70","100","100","200"
"CTY|XX","01.03.2024 04:00 - 01.03.2024 05:00 (UTC)","-","n/e","-","-","-","-","-"
"""
ENTSOE_GENERATION_NEW = """\
"MTU (UTC)","Area","Production Type","Generation (MW)"
"01/03/2025 00:00:00 - 01/03/2025 01:00:00","CTY|XX","Fossil Gas","100"
"01/03/2025 01:00:00 - 01/03/2025 02:00:00","CTY|XX","Fossil Gas","300"
"01/03/2025 00:00:00 - 01/03/2025 01:00:00","CTY|XX","Nuclear","100"
"01/03/2025 01:00:00 - 01/03/2025 02:00:00","CTY|XX","Nuclear","100"
"01/03/2025 00:00:00 - 01/03/2025 01:00:00","CTY|XX","Wind Onshore","200"
"01/03/2025 01:00:00 - 01/03/2025 02:00:00","CTY|XX","Wind Onshore","0"
"01/03/2025 00:00:00 - 01/03/2025 01:00:00","CTY|XX","Marine","n/e"
"01/03/2025 01:00:00 - 01/03/2025 02:00:00","CTY|XX","Marine","n/e"
"""
UK_JSON = """\
{"data":[{"from":"2024-03-01T12:00Z","to":"2024-03-01T12:30Z","intensity":{"forecast":266,"actual":263,"index":"high"}},
{"from":"2024-03-01T12:30Z","to":"2024-03-01T13:00Z","intensity":{"forecast":120,"actual":118,"index":"low"}},
{"from":"2024-03-01T13:00Z","to":"2024-03-01T13:30Z","intensity":{"forecast":90,"actual":null,"index":"low"}}]}
"""
UK_REGION_JSON = """\
{"data":{"regionid":1,"shortname":"Madeup","data":[
{"from":"2024-03-01T12:00Z","to":"2024-03-01T12:30Z","intensity":{"forecast":266,"index":"high"},"generationmix":[]},
{"from":"2024-03-01T12:30Z","to":"2024-03-01T13:00Z","intensity":{"forecast":120,"index":"low"},"generationmix":[]}]}}
"""
UK_REGIONS_JSON = """\
{"data":[{"from":"2024-03-01T12:00Z","to":"2024-03-01T12:30Z","regions":[
{"regionid":1,"shortname":"A","intensity":{"forecast":10,"index":"low"}},
{"regionid":2,"shortname":"B","intensity":{"forecast":20,"index":"low"}}]},
{"from":"2024-03-01T12:30Z","to":"2024-03-01T13:00Z","regions":[
{"regionid":2,"shortname":"B","intensity":{"forecast":40,"index":"low"}},
{"regionid":1,"shortname":"A","intensity":{"forecast":30,"index":"low"}}]}]}
"""
UK_CSV = """\
Datetime (UTC),Actual Carbon Intensity (gCO2/kWh),Forecast Carbon Intensity (gCO2/kWh),Index
2024-03-01T12:00Z,263,266,high
2024-03-01T12:30Z,118,120,low
2024-03-01T13:00Z,,90,low
"""
SKYPILOT_JSON = '{"metadata": {"gap_seconds": 300}, "data": [0, 2, 2, 1, 0, 1]}\n'
BAMBOO_CSV = """\
0,add,node1
0,add,node2
60000,remove,node1
60000,add,node3
120000,add,node4
180000,remove,node2
300000,remove,node3
"""
PARCAE_TXT = """\
[0, "add", {"nodes": ["node-0", "node-1"], "duration": 60000, "liveput_truth_strategy": [2, 1]}]
[60000, "no-op", {"nodes": [], "duration": 60000, "liveput_truth_strategy": [2, 1]}]
[120000, "remove", {"nodes": ["node-1"], "duration": 60000, "liveput_truth_strategy": [1, 1]}]
[180000, "migration", {"nodes": [], "duration": 60000, "liveput_truth_strategy": [1, 1]}]
[240000, "add", {"nodes": ["node-2"], "duration": 60000, "liveput_truth_strategy": [2, 1]}]
"""
