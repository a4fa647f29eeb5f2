//! How game servers are asked and told: pure codecs of their query and admin protocols, and clients that
//! speak them with deadlines. It knows neither processes nor wards, keeps nothing and decides nothing.
